//! What changed between the point and the recovery: which tables are compared, by what, and how
//! their rows differ. Pure.
//!
//! "Then" is the state of the point, which production is now; "kept" is what production was until
//! the recovery.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::checks::session::{qualified, quoted};
use shared::words::grouped;

/// A table as the catalog of one of the two has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Name and type, in order.
    pub columns: Vec<(String, String)>,
    /// The primary key's columns, in its order.
    pub key: Vec<String>,
    pub is_partitioned: bool,
    pub is_unlogged: bool,
    /// As the planner last estimated it: small ones are compared first.
    pub pages: u64,
}

/// By schema and name.
pub type Tables = BTreeMap<(String, String), Table>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub tables: Vec<TableDifference>,
}

/// Counts only: no row content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDifference {
    pub schema: String,
    pub name: String,
    /// Rows that came since the point: in the kept branch only.
    pub added: Option<u64>,
    /// Rows that went since the point: production has them back.
    pub gone: Option<u64>,
    pub changed: Option<u64>,
    /// It has no key, and differs as a whole.
    #[serde(default)]
    pub is_unlike: bool,
    /// How it was compared where it was not by its primary key, or why it was not.
    pub note: Option<String>,
    /// What changed about the table itself.
    pub findings: Vec<String>,
}

/// How one table is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Row by row, in the order of the key: the same statement on both sides.
    ByKey(String),
    /// Number and fingerprint of its rows.
    AsAWhole(String),
    /// It is on one side only: the statement counts there.
    OnlyThen(String),
    OnlyKept(String),
    NotAtAll(&'static str),
}

/// One row of a comparison by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    pub key: Vec<u8>,
    pub digest: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub added: u64,
    pub gone: u64,
    pub changed: u64,
}

/// Every table of either side with how to compare it, small ones first.
pub fn pair(then: &Tables, kept: &Tables) -> Vec<(TableDifference, How)> {
    let mut pairs: Vec<(u64, TableDifference, How)> = Vec::new();
    let nothing = Table::default();
    let names = then
        .keys()
        .chain(kept.keys().filter(|it| !then.contains_key(*it)));
    for name in names {
        let (schema, table) = name;
        let relation = qualified(schema, table);
        let mut difference = TableDifference {
            schema: schema.clone(),
            name: table.clone(),
            ..TableDifference::default()
        };
        let (old, new) = (then.get(name), kept.get(name));
        let how = match (old, new) {
            (Some(it), _) | (None, Some(it)) if it.is_unlogged => {
                How::NotAtAll("it is unlogged: Neon brings no row of it to a branch")
            }
            (Some(then), Some(kept)) => both(&relation, then, kept, &mut difference),
            (Some(only), None) => {
                let finding = "it was dropped since; production has it back";
                difference.findings.push(finding.to_owned());
                How::OnlyThen(count(&relation, only))
            }
            (None, only) => {
                let finding = "it was made since; it is in the kept branch only";
                difference.findings.push(finding.to_owned());
                How::OnlyKept(count(&relation, only.unwrap_or(&nothing)))
            }
        };
        let pages = old.map_or(0, |it| it.pages) + new.map_or(0, |it| it.pages);
        pairs.push((pages, difference, how));
    }
    pairs.sort_by_key(|it| it.0);
    pairs.into_iter().map(|it| (it.1, it.2)).collect()
}

fn both(relation: &str, then: &Table, kept: &Table, difference: &mut TableDifference) -> How {
    let type_of = |table: &Table, name: &str| {
        let mut columns = table.columns.iter();
        columns.find(|it| it.0 == name).map(|it| it.1.clone())
    };
    let mut common = Vec::new();
    for (name, was) in &then.columns {
        match type_of(kept, name) {
            None => difference
                .findings
                .push(format!("the column {name} was dropped since")),
            Some(is) => {
                if is != *was {
                    difference
                        .findings
                        .push(format!("the column {name} was {was} and became {is}"));
                }
                common.push(name.clone());
            }
        }
    }
    let added = kept
        .columns
        .iter()
        .filter(|it| type_of(then, &it.0).is_none());
    let added = added.map(|it| format!("the column {} was added since", it.0));
    difference.findings.extend(added);
    let from = from(relation, then.is_partitioned || kept.is_partitioned);
    let columns: Vec<String> = common.iter().map(|it| quoted(it)).collect();
    let row = format!("ROW({})::text", columns.join(", "));
    let is_keyed = !then.key.is_empty()
        && then.key == kept.key
        && then.key.iter().all(|it| common.contains(it));
    if !is_keyed {
        difference.note = Some(
            "it has no primary key that both have: compared by number and fingerprint of all rows"
                .to_owned(),
        );
        return How::AsAWhole(format!(
            "SELECT count(*), coalesce(sum(('x' || substr(md5(r), 1, 16))::bit(64)::bigint::numeric), 0) FROM (SELECT {row} AS r {from}) AS rows"
        ));
    }
    // Hexadecimal, so that the order is that of the bytes wherever it is looked at.
    let key = then.key.iter().map(|it| {
        let column = quoted(it);
        format!("encode(convert_to({column}::text, getdatabaseencoding()), 'hex')")
    });
    let key: Vec<String> = key.collect();
    How::ByKey(format!(
        "COPY (SELECT k, d FROM (SELECT concat_ws(',', {}) AS k, md5({row}) AS d {from}) AS rows ORDER BY k COLLATE \"C\") TO STDOUT",
        key.join(", ")
    ))
}

fn count(relation: &str, table: &Table) -> String {
    format!("SELECT count(*) {}", from(relation, table.is_partitioned))
}

/// Of a table that others inherit from, its own rows only; of a partitioned one, all of them.
fn from(relation: &str, is_partitioned: bool) -> String {
    let only = if is_partitioned { "" } else { "ONLY " };
    format!("FROM {only}{relation}")
}

/// Compares two streams of rows that are both in the order of their keys.
pub fn merge(then: impl Iterator<Item = Keyed>, kept: impl Iterator<Item = Keyed>) -> Counts {
    let (mut then, mut kept) = (then.peekable(), kept.peekable());
    let mut counts = Counts::default();
    loop {
        let order = match (then.peek(), kept.peek()) {
            (None, None) => return counts,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(then), Some(kept)) => then.key.cmp(&kept.key),
        };
        match order {
            Ordering::Less => {
                counts.gone += 1;
                then.next();
            }
            Ordering::Greater => {
                counts.added += 1;
                kept.next();
            }
            Ordering::Equal => {
                if then.next().map(|it| it.digest) != kept.next().map(|it| it.digest) {
                    counts.changed += 1;
                }
            }
        }
    }
}

impl TableDifference {
    pub fn count(&mut self, counts: Counts) {
        self.added = Some(counts.added);
        self.gone = Some(counts.gone);
        self.changed = Some(counts.changed);
    }

    /// Rows that one side does not have, or has otherwise; false also where nothing was compared.
    pub fn differs(&self) -> bool {
        let counted = [self.added, self.gone, self.changed];
        !self.findings.is_empty()
            || self.is_unlike
            || counted.into_iter().flatten().any(|rows| rows > 0)
    }

    pub fn is_equal(&self) -> bool {
        let none = Some(0);
        self.findings.is_empty() && (self.added, self.gone, self.changed) == (none, none, none)
    }

    fn words(&self) -> String {
        let mut parts = Vec::new();
        if let (Some(added), Some(gone), Some(changed)) = (self.added, self.gone, self.changed) {
            parts.push(format!(
                "{} rows added since, {} gone, {} changed",
                grouped(added),
                grouped(gone),
                grouped(changed)
            ));
        }
        parts.extend(self.note.clone());
        parts.extend(self.findings.iter().cloned());
        format!("{}.{}: {}", self.schema, self.name, parts.join("; "))
    }
}

impl Difference {
    /// A line for each table that is not the same, and one for all others.
    pub fn words(&self) -> Vec<String> {
        let differing = self.tables.iter().filter(|it| !it.is_equal());
        let mut lines: Vec<String> = differing.map(TableDifference::words).collect();
        let same = self.tables.len() - lines.len();
        lines.sort();
        if same > 0 {
            lines.push(format!("{same} tables are the same"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Keyed> {
        let row = |it: &str| {
            let (key, digest) = it.split_once('=').unwrap();
            Keyed {
                key: key.as_bytes().to_vec(),
                digest: digest.as_bytes().to_vec(),
            }
        };
        text.split_whitespace().map(row).collect()
    }

    #[test]
    fn rows_are_added_gone_changed_or_the_same() {
        for (then, kept, expected) in [
            ("", "", (0, 0, 0)),
            ("a=1 b=1", "a=1 b=1", (0, 0, 0)),
            ("a=1 c=1", "a=2 b=1 d=1", (2, 1, 1)),
            ("", "a=1 b=1", (2, 0, 0)),
            ("a=1 b=1", "", (0, 2, 0)),
        ] {
            let found = merge(rows(then).into_iter(), rows(kept).into_iter());
            assert_eq!(
                (found.added, found.gone, found.changed),
                expected,
                "{then} | {kept}"
            );
        }
    }

    fn table(columns: &[(&str, &str)], key: &[&str], pages: u64) -> Table {
        let columns = columns.iter();
        Table {
            columns: columns
                .map(|it| (it.0.to_owned(), it.1.to_owned()))
                .collect(),
            key: key.iter().map(|it| (*it).to_owned()).collect(),
            pages,
            ..Table::default()
        }
    }

    fn tables(all: &[(&str, Table)]) -> Tables {
        let named =
            |(name, table): &(&str, Table)| (("app".to_owned(), (*name).to_owned()), table.clone());
        all.iter().map(named).collect()
    }

    #[test]
    fn each_table_is_compared_as_far_as_it_can_be_and_small_ones_first() {
        let id = [("id", "integer"), ("note", "text")];
        let then = tables(&[
            ("Orders", table(&id, &["id"], 9)),
            ("log", table(&[("line", "text")], &[], 1)),
            ("dropped", table(&id, &["id"], 3)),
        ]);
        let retyped = [("id", "integer"), ("note", "jsonb"), ("paid", "boolean")];
        let unlogged = Table {
            is_unlogged: true,
            ..Table::default()
        };
        let kept = tables(&[
            ("Orders", table(&retyped, &["id"], 9)),
            ("log", table(&[("line", "text")], &[], 1)),
            ("cache", unlogged),
            ("made", table(&id, &["id"], 4)),
        ]);
        let pairs = pair(&then, &kept);
        let names: Vec<&str> = pairs.iter().map(|it| &*it.0.name).collect();
        assert_eq!(names, ["cache", "log", "dropped", "made", "Orders"]);
        assert!(matches!(pairs[0].1, How::NotAtAll(why) if why.contains("unlogged")));
        assert!(matches!(&pairs[1].1, How::AsAWhole(sql) if sql.contains("ROW(\"line\")::text")));
        let counts = "SELECT count(*) FROM ONLY \"app\".\"dropped\"";
        assert_eq!(pairs[2].1, How::OnlyThen(counts.to_owned()));
        assert!(matches!(&pairs[3].1, How::OnlyKept(_)));
        let How::ByKey(sql) = &pairs[4].1 else {
            panic!("{:?}", pairs[4]);
        };
        assert!(
            sql.contains("convert_to(\"id\"::text") && sql.contains("ROW(\"id\", \"note\")::text"),
            "{sql}"
        );
        assert!(sql.contains("FROM ONLY \"app\".\"Orders\""), "{sql}");
        assert_eq!(
            pairs[4].0.findings,
            [
                "the column note was text and became jsonb",
                "the column paid was added since"
            ]
        );
    }

    #[test]
    fn a_key_of_other_columns_is_no_key_to_compare_by() {
        let id = [("id", "integer"), ("other", "integer")];
        let then = tables(&[("t", table(&id, &["id"], 0))]);
        let kept = tables(&[("t", table(&id, &["other"], 0))]);
        assert!(matches!(pair(&then, &kept)[0].1, How::AsAWhole(_)));
    }

    #[test]
    fn the_report_names_what_differs_and_counts_what_does_not() {
        let mut orders = TableDifference {
            schema: "app".to_owned(),
            name: "orders".to_owned(),
            ..TableDifference::default()
        };
        orders.count(Counts {
            added: 1_200,
            gone: 3,
            changed: 1,
        });
        let mut users = TableDifference {
            name: "users".to_owned(),
            ..orders.clone()
        };
        users.count(Counts::default());
        let difference = Difference {
            tables: vec![users, orders],
        };
        assert_eq!(
            difference.words(),
            [
                "app.orders: 1,200 rows added since, 3 gone, 1 changed",
                "1 tables are the same"
            ]
        );
    }
}
