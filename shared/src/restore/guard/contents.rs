//! The judgement's other half: what the backup's contents need of the target. Pure.

use super::judge::{Judge, listed, obstacle, quoted};
use super::{Obstacle, ObstacleCode, TableFacts};
use crate::manifest::{Extension, Table};
use crate::restore::{Scope, table_name};

impl Judge<'_> {
    /// Tables that have to be there, and how.
    pub(super) fn tables(&self) -> Vec<Obstacle> {
        match &self.wish.order.scope {
            Scope::Tables(wanted) => {
                let known = &self.wish.manifest.tables;
                let is_known = |schema: &str, name: &str| {
                    known
                        .iter()
                        .any(|it| it.schema == schema && it.name == name)
                };
                let missing: Vec<String> = wanted
                    .iter()
                    .filter(|it| !is_known(&it.schema, &it.name))
                    .map(table_name)
                    .collect();
                if missing.is_empty() {
                    return Vec::new();
                }
                let missing = format!("the backup has no table {}", listed(&missing));
                let remedy = "write schema.table as the manifest has it: case matters";
                obstacle(ObstacleCode::Missing, missing, remedy)
                    .into_iter()
                    .collect()
            }
            Scope::DataOnly if self.target.database_exists => self.existing_tables(),
            Scope::Everything | Scope::SchemaOnly | Scope::DataOnly => Vec::new(),
        }
    }

    fn existing_tables(&self) -> Vec<Obstacle> {
        let (mut missing, mut filled, mut other) = (Vec::new(), Vec::new(), Vec::new());
        let mut triggered = Vec::new();
        for table in &self.wish.manifest.tables {
            let name = format!("{}.{}", table.schema, table.name);
            match self
                .target
                .tables
                .get(&(table.schema.clone(), table.name.clone()))
            {
                None => missing.push(name),
                Some(found) => {
                    if found.has_rows {
                        filled.push(name.clone());
                    }
                    if found.has_stubborn_triggers {
                        triggered.push(name.clone());
                    }
                    if !has_columns(table, found) {
                        other.push(name);
                    }
                }
            }
        }
        let all = [
            (
                ObstacleCode::Missing,
                missing,
                "these tables of the backup do not exist in the target",
                "create them first: \"scope\": \"schema_only\" into a new database does",
            ),
            (
                ObstacleCode::NotEmpty,
                filled,
                "these tables have rows",
                "rows are loaded into empty tables only: name another database",
            ),
            (
                ObstacleCode::Columns,
                other,
                "these tables lack columns of the backup",
                "give them the backup's columns, or restore everything into a new database",
            ),
            (
                ObstacleCode::Triggers,
                triggered,
                "these tables have triggers that fire for loaded rows, too (ENABLE ALWAYS, ENABLE REPLICA)",
                "ALTER TABLE … DISABLE TRIGGER … until the rows are there, or restore everything into a new database",
            ),
        ];
        let found = all.into_iter().filter(|(_, names, _, _)| !names.is_empty());
        found
            .filter_map(|(code, names, words, remedy)| {
                obstacle(code, format!("{words}: {}", listed(&names)), remedy)
            })
            .collect()
    }

    /// What the archive's statements need of the server.
    pub(super) fn needs(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        if self.has_whole_schema() {
            obstacles.extend(self.extensions());
            obstacles.extend(self.superuser());
        }
        let lacking = self.wish.roles.difference(&self.target.roles);
        let lacking: Vec<String> = lacking.cloned().collect();
        if !lacking.is_empty() {
            obstacles.extend(obstacle(
                ObstacleCode::Role,
                format!("the target's server lacks roles that owners, grants or policies name: {}", listed(&lacking)),
                "create them (roles.sql of the backup has them, without passwords), or leave \"owners\" and \"privileges\" away; a policy needs its roles in any case",
            ));
        }
        let settings = &self.wish.manifest.settings;
        let encoding = self.target.encoding.as_deref();
        let is_data_only = self.wish.order.scope == Scope::DataOnly;
        if is_data_only && encoding.is_some_and(|it| it != settings.encoding) {
            obstacles.extend(obstacle(
                ObstacleCode::Encoding,
                format!(
                    "the target's encoding is {}, the backup's is {}",
                    encoding.unwrap_or_default(),
                    settings.encoding
                ),
                "create the database with the backup's encoding",
            ));
        }
        let missing_locale = self.target.missing_locale.as_ref();
        if let Some(missing) = missing_locale.filter(|_| self.has_whole_schema()) {
            obstacles.extend(obstacle(
                ObstacleCode::Locale,
                format!(
                    "the target's server lacks what the backup's database is sorted by: {missing}"
                ),
                "install the locale at the server, or name a server that has it",
            ));
        }
        let sees_all = self.target.is_superuser || self.target.bypasses_row_security;
        let forced = self.wish.forced_row_security;
        if !forced.is_empty() && !sees_all && self.wish.order.scope != Scope::SchemaOnly {
            obstacles.extend(obstacle(
                ObstacleCode::RowSecurity,
                format!("row-level security is forced on {}: the role {} could not read back what it has loaded", listed(forced), self.target.role),
                format!("ALTER ROLE {} BYPASSRLS, or another role in the target's secret", quoted(&self.target.role)),
            ));
        }
        obstacles
    }

    /// What a role without its rights would fail at, in the middle of the restore.
    fn superuser(&self) -> Option<Obstacle> {
        if self.target.is_superuser || self.target.has_platform_rights {
            return None;
        }
        let extensions = self.wanted_extensions();
        let extensions =
            extensions.filter(|it| self.target.superuser_extensions.contains(&it.name));
        let extensions = extensions.map(|it| format!("EXTENSION {}", it.name));
        let names: Vec<String> = extensions
            .chain(self.wish.superuser_only.iter().cloned())
            .collect();
        if names.is_empty() {
            return None;
        }
        obstacle(
            ObstacleCode::Rights,
            format!(
                "only a superuser may create these, and the role {} is none: {}",
                self.target.role,
                listed(&names)
            ),
            "a superuser in the target's secret, or name the extensions, schemas and publications concerned under [database.restore] in lifeboat.toml, to be left out",
        )
    }

    fn wanted_extensions(&self) -> impl Iterator<Item = &Extension> {
        let left_out = &self.wish.order.leave_out;
        self.wish.manifest.extensions.iter().filter(|it| {
            !left_out.extensions.contains(&it.name) && !left_out.schemas.contains(&it.schema)
        })
    }

    fn extensions(&self) -> Vec<Obstacle> {
        let wanted = self.wanted_extensions();
        let (mut missing, mut older) = (Vec::new(), Vec::new());
        for extension in wanted {
            match self.target.extensions.get(&extension.name) {
                None => missing.push(format!("{} {}", extension.name, extension.version)),
                Some(versions) => {
                    let wanted = version_key(&extension.version);
                    if versions.iter().all(|it| version_key(it) < wanted) {
                        let newest = versions.iter().max_by_key(|it| version_key(it));
                        older.push(format!(
                            "{} (there: {}, the backup has {})",
                            extension.name,
                            newest.map_or("none", String::as_str),
                            extension.version
                        ));
                    }
                }
            }
        }
        let remedy = "install them at the target's server, or, if the application does without, name them under leave_out_extensions in lifeboat.toml";
        let all = [
            (
                missing,
                "the target's server does not offer these extensions",
            ),
            (
                older,
                "the target's server offers these extensions in older versions only",
            ),
        ];
        let found = all.into_iter().filter(|(names, _)| !names.is_empty());
        found
            .filter_map(|(names, words)| {
                let message = format!("{words}: {}", listed(&names));
                obstacle(ObstacleCode::Extension, message, remedy)
            })
            .collect()
    }
}

fn has_columns(table: &Table, found: &TableFacts) -> bool {
    table
        .copy_columns
        .iter()
        .all(|it| found.columns.contains(it))
}

/// Numbers compare as numbers: 1.10 is newer than 1.9.
fn version_key(version: &str) -> Vec<(u64, String)> {
    let parts = version.split(['.', '-', '+']);
    parts
        .map(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            (
                digits.parse().unwrap_or_default(),
                part[digits.len()..].to_owned(),
            )
        })
        .collect()
}
