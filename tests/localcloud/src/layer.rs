//! The configuration and tools layers as the functions find them under `LAYER_ROOT`.

use std::fs;
use std::path::{Path, PathBuf};

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
        f.debug_struct("Database")
            .field("name", &self.name)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// One server of the configuration that backups may be restored to.
#[derive(Clone)]
pub struct Target {
    /// `[a-z0-9-]{1,40}`
    pub name: String,
    /// With the password; goes into the secret and nowhere else.
    pub url: String,
    pub live: bool,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// Writes `lifeboat.toml` in one step, so that a function that starts meanwhile reads the old or the new one.
pub(crate) fn write_config(
    layer: &Path,
    recipients: &[String],
    databases: &[Database],
    targets: &[Target],
) -> std::io::Result<()> {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = format!("recipients = {}\n", json!(recipients));
    for database in databases {
        let (name, provider) = (quoted(&database.name), quoted(&database.provider));
        text.push_str(&format!(
            "\n[[database]]\nname = {name}\nprovider = {provider}\n{}\n",
            database.extra
        ));
    }
    for target in targets {
        let (name, live) = (quoted(&target.name), target.live);
        text.push_str(&format!("\n[[target]]\nname = {name}\nlive = {live}\n"));
    }
    let new = layer.join(format!(
        ".lifeboat.toml.{}",
        crate::lambda_host::request_id()
    ));
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

/// Makes `tools` lead to the client tools of every major that the roots have; the first root that has one provides it.
///
/// # Errors
///
/// `tools` cannot be written.
pub fn merge_client_tools(tools: &Path, roots: &[PathBuf]) -> std::io::Result<()> {
    match fs::remove_dir_all(tools) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir(tools)?;
    for root in roots {
        let Ok(entries) = fs::read_dir(root) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let link = tools.join(entry.file_name());
            let is_major = entry.file_name().to_string_lossy().parse::<u16>().is_ok();
            let has_client = entry.path().join("bin/pg_dump").exists();
            if is_major && has_client && !link.exists() {
                std::os::unix::fs::symlink(entry.path().canonicalize()?, link)?;
            }
        }
    }
    Ok(())
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
        let target = Target {
            name: "standby".into(),
            url: "postgresql://u:hidden@localhost/postgres".into(),
            live: false,
        };
        let keys = ["age1a".into(), "age1b".into()];
        write_config(layer.path(), &keys, &[database], &[target]).unwrap();
        let text = fs::read_to_string(layer.path().join("lifeboat.toml")).unwrap();
        let expected = "recipients = [\"age1a\",\"age1b\"]\n\n[[database]]\nname = \"app\"\nprovider = \"postgres\"\nconnections = 2\n\n[[target]]\nname = \"standby\"\nlive = false\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_first_root_that_has_a_major_provides_it() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        for (root, major) in [
            (&first, "18"),
            (&second, "18"),
            (&second, "15"),
            (&second, "notes"),
        ] {
            fs::create_dir_all(root.join(major).join("bin")).unwrap();
            fs::write(
                root.join(major).join("bin/pg_dump"),
                root.display().to_string(),
            )
            .unwrap();
        }
        let tools = folder.path().join("tools");
        for _ in 0..2 {
            merge_client_tools(&tools, &[first.clone(), second.clone(), "/nowhere".into()])
                .unwrap();
        }
        let of = |major: &str| fs::read_to_string(tools.join(major).join("bin/pg_dump"));
        assert_eq!(of("18").unwrap(), first.display().to_string());
        assert_eq!(of("15").unwrap(), second.display().to_string());
        assert!(of("notes").is_err());
    }
}
