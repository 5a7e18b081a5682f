//! What the archive's statements need of the server that takes them. Pure.

use std::collections::BTreeSet;

use crate::archive::{Entry, lossy};
use crate::restore::{Backup, Order, Scope, kept};

/// The roles without which a statement of the order fails: owners and grants as far as they
/// are asked for, and whom policies are for.
pub fn roles(backup: &Backup, order: &Order) -> BTreeSet<String> {
    let kept = kept(&backup.toc, order);
    let entries = backup.toc.entries.iter();
    let entries = entries.filter(|it| kept.contains(&it.dump_id));
    let mut roles = BTreeSet::new();
    for entry in entries {
        if order.owners {
            let owner = lossy(&entry.owner).into_owned();
            if !owner.is_empty() {
                roles.insert(owner);
            }
        }
        let is_grant = entry.is("ACL") || entry.is("DEFAULT ACL");
        if entry.is("POLICY") || (is_grant && order.privileges) {
            roles.extend(named_roles(entry));
        }
    }
    roles
}

/// Tables that hide their rows even from their owner.
pub fn forced_row_security(backup: &Backup, order: &Order) -> Vec<String> {
    if matches!(order.scope, Scope::SchemaOnly | Scope::Tables(_)) {
        return Vec::new();
    }
    let kept = kept(&backup.toc, order);
    let entries = backup.toc.entries.iter();
    let forced = entries.filter(|it| {
        it.is("TABLE")
            && kept.contains(&it.dump_id)
            && lossy(&it.definition).contains(" FORCE ROW LEVEL SECURITY;")
    });
    forced
        .map(|it| format!("{}.{}", lossy(&it.namespace), lossy(&it.tag)))
        .collect()
}

/// Of `GRANT … TO a`, `REVOKE … FROM a`, `ALTER DEFAULT PRIVILEGES FOR ROLE a …` and
/// `CREATE POLICY … TO a, b USING (…)`.
fn named_roles(entry: &Entry) -> Vec<String> {
    let definition = lossy(&entry.definition);
    if entry.is("POLICY") {
        let head = definition.split(" USING (").next().unwrap_or_default();
        let head = head.split(" WITH CHECK (").next().unwrap_or_default();
        return head
            .rsplit_once(" TO ")
            .map(|(_, list)| role_list(list))
            .unwrap_or_default();
    }
    let mut roles = Vec::new();
    for statement in definition.split(";\n").filter(|it| !it.trim().is_empty()) {
        let to = statement.rsplit_once(" TO ");
        let from = statement.rsplit_once(" FROM ");
        if let Some((_, list)) = to.or(from) {
            let list = list.split(" WITH GRANT OPTION").next().unwrap_or_default();
            let list = list.split(" GRANTED BY ").next().unwrap_or_default();
            roles.extend(role_list(list));
        }
        if let Some((_, rest)) = statement.split_once(" FOR ROLE ") {
            let role = rest.split(" IN SCHEMA ").next().unwrap_or_default();
            let role = role.split(" GRANT ").next().unwrap_or_default();
            let role = role.split(" REVOKE ").next().unwrap_or_default();
            roles.extend(role_list(role));
        }
    }
    roles
}

/// `a, "B ""c"""`, without those that every server has.
fn role_list(list: &str) -> Vec<String> {
    let list = list.trim().trim_end_matches(';').trim();
    let (mut roles, mut is_quoted) = (vec![String::new()], false);
    for c in list.chars() {
        is_quoted ^= c == '"';
        match roles.last_mut() {
            Some(role) if c != ',' || is_quoted => role.push(c),
            Some(_) | None => roles.push(String::new()),
        }
    }
    let roles = roles.iter().map(|it| {
        let it = it.trim();
        match it.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => it.to_owned(),
        }
    });
    let builtin = [
        "PUBLIC",
        "public",
        "CURRENT_USER",
        "CURRENT_ROLE",
        "SESSION_USER",
        "",
    ];
    roles.filter(|it| !builtin.contains(&it.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, definition: &str, expected: &[&str]) {
        let entry = Entry {
            desc: Some(kind.into()),
            definition: Some(definition.into()),
            ..Entry::default()
        };
        assert_eq!(named_roles(&entry), expected, "{definition}");
    }

    #[test]
    fn roles_are_read_from_grants_and_policies() {
        check(
            "ACL",
            "GRANT SELECT ON TABLE app.t TO reader;\n",
            &["reader"],
        );
        check(
            "ACL",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC;\nGRANT ALL ON SCHEMA public TO \"Odd, one\" WITH GRANT OPTION;\n",
            &["Odd, one"],
        );
        check(
            "ACL",
            "GRANT USAGE ON SCHEMA s TO \"My \"\"x\"\"\";\n",
            &["My \"x\""],
        );
        check(
            "DEFAULT ACL",
            "ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA app GRANT SELECT ON TABLES TO reader;\n",
            &["reader", "owner"],
        );
        check(
            "POLICY",
            "CREATE POLICY p ON app.t FOR SELECT TO reader, writer USING ((owner = CURRENT_USER));\n",
            &["reader", "writer"],
        );
        check("POLICY", "CREATE POLICY p ON app.t USING (true);\n", &[]);
    }
}
