//! Which check an entry of a table of contents belongs to. Pure.

use shared::policy::Priority;

use super::CheckCode;

/// One check on entries of the table of contents.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub code: CheckCode,
    pub name: &'static str,
    pub priority: Priority,
    /// The kinds of entry, as `pg_dump` names them.
    pub descs: &'static [&'static str],
}

/// Kinds that are in no group belong to [`CheckCode::CatalogOther`]: nothing is skipped for
/// being unknown.
pub const GROUPS: [Group; 14] = [
    Group {
        code: CheckCode::CatalogTables,
        name: "Tables",
        priority: Priority::P0,
        descs: &["TABLE", "TABLE ATTACH", "TABLE DATA", "FOREIGN TABLE"],
    },
    Group {
        code: CheckCode::CatalogPolicies,
        name: "Row-level security",
        priority: Priority::P0,
        descs: &["POLICY", "ROW SECURITY"],
    },
    Group {
        code: CheckCode::CatalogGrants,
        name: "Grants",
        priority: Priority::P0,
        descs: &["ACL", "DEFAULT ACL"],
    },
    Group {
        code: CheckCode::CatalogOwners,
        name: "Owners",
        priority: Priority::P1,
        descs: &[],
    },
    Group {
        code: CheckCode::CatalogFunctions,
        name: "Functions",
        priority: Priority::P0,
        descs: &[
            "FUNCTION",
            "PROCEDURE",
            "AGGREGATE",
            "CAST",
            "TRANSFORM",
            "PROCEDURAL LANGUAGE",
            "OPERATOR",
            "OPERATOR CLASS",
            "OPERATOR FAMILY",
            "ACCESS METHOD",
        ],
    },
    Group {
        code: CheckCode::CatalogTriggers,
        name: "Triggers and rules",
        priority: Priority::P0,
        descs: &["TRIGGER", "EVENT TRIGGER", "RULE"],
    },
    Group {
        code: CheckCode::CatalogConstraints,
        name: "Constraints and defaults",
        priority: Priority::P0,
        descs: &["CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "DEFAULT"],
    },
    Group {
        code: CheckCode::CatalogIndexes,
        name: "Indexes",
        priority: Priority::P1,
        descs: &["INDEX", "INDEX ATTACH", "STATISTICS"],
    },
    Group {
        code: CheckCode::CatalogViews,
        name: "Views",
        priority: Priority::P0,
        descs: &["VIEW", "MATERIALIZED VIEW", "MATERIALIZED VIEW DATA"],
    },
    Group {
        code: CheckCode::CatalogExtensions,
        name: "Extensions",
        priority: Priority::P0,
        descs: &["EXTENSION"],
    },
    Group {
        code: CheckCode::CatalogSequences,
        name: "Sequences",
        priority: Priority::P0,
        descs: &["SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET"],
    },
    Group {
        code: CheckCode::CatalogPublications,
        name: "Publications",
        priority: Priority::P1,
        descs: &[
            "PUBLICATION",
            "PUBLICATION TABLE",
            "PUBLICATION TABLES IN SCHEMA",
        ],
    },
    Group {
        code: CheckCode::CatalogComments,
        name: "Comments and labels",
        priority: Priority::P1,
        descs: &["COMMENT", "SECURITY LABEL"],
    },
    Group {
        code: CheckCode::CatalogTypes,
        name: "Types and schemas",
        priority: Priority::P0,
        descs: &[
            "SCHEMA",
            "TYPE",
            "SHELL TYPE",
            "DOMAIN",
            "COLLATION",
            "CONVERSION",
        ],
    },
];

/// Everything else.
pub const OTHER: Group = Group {
    code: CheckCode::CatalogOther,
    name: "Other objects",
    priority: Priority::P1,
    descs: &[],
};

pub fn group_of(desc: &str) -> CheckCode {
    let group = GROUPS.iter().find(|it| it.descs.contains(&desc));
    group.unwrap_or(&OTHER).code
}

/// Never restored, and so not compared: settings of the archive itself, what belongs to the
/// database as a whole, and subscriptions, which would take over the source's replication slot.
pub fn is_never_restored(desc: &str) -> bool {
    matches!(
        desc,
        "ENCODING"
            | "STDSTRINGS"
            | "SEARCHPATH"
            | "DATABASE"
            | "DATABASE PROPERTIES"
            | "SUBSCRIPTION"
            | "SUBSCRIPTION TABLE"
    )
}

/// It has the owner of the object that it is a part of, and is named by that.
pub fn belongs_to_another(desc: &str) -> bool {
    matches!(
        desc,
        "ACL"
            | "CHECK CONSTRAINT"
            | "COMMENT"
            | "CONSTRAINT"
            | "DEFAULT"
            | "FK CONSTRAINT"
            | "INDEX"
            | "INDEX ATTACH"
            | "MATERIALIZED VIEW DATA"
            | "POLICY"
            | "PUBLICATION TABLE"
            | "PUBLICATION TABLES IN SCHEMA"
            | "ROW SECURITY"
            | "RULE"
            | "SECURITY LABEL"
            | "SEQUENCE OWNED BY"
            | "SEQUENCE SET"
            | "TABLE ATTACH"
            | "TABLE DATA"
            | "TRIGGER"
    )
}

/// Its definition may hold a password.
pub fn is_confidential(desc: &str) -> bool {
    matches!(desc, "USER MAPPING" | "SERVER" | "FOREIGN DATA WRAPPER")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_kind_is_in_two_groups_and_an_unknown_one_is_in_the_last() {
        let mut seen = BTreeSet::new();
        for desc in GROUPS.iter().flat_map(|it| it.descs) {
            assert!(seen.insert(desc), "{desc}");
        }
        assert_eq!(group_of("POLICY"), CheckCode::CatalogPolicies);
        assert_eq!(group_of("PROPERTY GRAPH"), CheckCode::CatalogOther);
    }
}
