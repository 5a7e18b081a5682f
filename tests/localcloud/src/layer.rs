//! The configuration and tools layers as the functions find them under `LAYER_ROOT`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// One database of the configuration.
#[derive(Clone)]
pub struct Database {
    /// `[a-z0-9-]{1,40}`
    pub name: String,
    /// `neon`, `supabase` or `postgres`.
    pub provider: String,
    /// With the password; goes into the secret and nowhere else.
    pub url: String,
    /// Further lines of its block in `lifeboat.toml`: `connections = 2`.
    pub extra: String,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("name", &self.name).field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Writes `lifeboat.toml` in one step, so that a function that starts meanwhile reads the old or the new one.
pub(crate) fn write_config(layer: &Path, recipients: &[String], databases: &[Database]) -> std::io::Result<()> {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = format!("recipients = {}\n", json!(recipients));
    for database in databases {
        let (name, provider) = (quoted(&database.name), quoted(&database.provider));
        text.push_str(&format!("\n[[database]]\nname = {name}\nprovider = {provider}\n{}\n", database.extra));
    }
    let new = layer.join(format!(".lifeboat.toml.{}", crate::lambda_host::request_id()));
    fs::write(&new, text)?;
    fs::rename(new, layer.join("lifeboat.toml"))
}

/// Links the PostgreSQL client tools, `<tools>/<major>/bin/…`.
pub(crate) fn link_tools(layer: &Path, tools: &Path) -> std::io::Result<()> {
    let link = layer.join("pgtools");
    match fs::remove_file(&link) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::os::unix::fs::symlink(tools, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_holds_recipients_and_databases_and_no_url() {
        let layer = tempfile::tempdir().unwrap();
        let database = Database {
            name: "app".into(),
            provider: "postgres".into(),
            url: "postgresql://u:hidden@localhost/app".into(),
            extra: "connections = 2".into(),
        };
        write_config(layer.path(), &["age1a".into(), "age1b".into()], &[database]).unwrap();
        let text = fs::read_to_string(layer.path().join("lifeboat.toml")).unwrap();
        let expected = "recipients = [\"age1a\",\"age1b\"]\n\n[[database]]\nname = \"app\"\nprovider = \"postgres\"\nconnections = 2\n";
        assert_eq!(text, expected);
    }
}
