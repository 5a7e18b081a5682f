//! The report of one backup: for a tired person, and for machines. Pure.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

/// How many tables are listed one by one.
const TABLES_SHOWN: usize = 10;

/// What the report takes from a manifest.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    backup_id: String,
    attempt: String,
    snapshot_at: String,
    source: Source,
    settings: Settings,
    recipients: Vec<String>,
    tables: Vec<Table>,
    totals: Totals,
    run: Run,
    left_out: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Source {
    host: String,
    port: u16,
    database: String,
    server_version: String,
}

#[derive(Debug, Deserialize)]
struct Settings {
    encoding: String,
    collate: String,
    ctype: String,
}

#[derive(Debug, Deserialize)]
struct Table {
    schema: String,
    name: String,
    rows: u64,
    copy_bytes: u64,
    fingerprint: String,
}

#[derive(Debug, Deserialize)]
struct Totals {
    tables: u64,
    rows: u64,
    copy_bytes: u64,
    objects: u64,
    stored_bytes: u64,
    large_objects: u64,
}

#[derive(Debug, Deserialize)]
struct Run {
    connections: u64,
    seconds: f64,
    peak_memory_bytes: u64,
}

/// What the report takes from a verdict.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) verdict: String,
    #[serde(default)]
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    message: String,
}

/// One finished run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) database: String,
    pub(crate) manifest: Manifest,
    pub(crate) verdict: Option<Verdict>,
    /// Where the manifest lies.
    pub(crate) folder: PathBuf,
    pub(crate) identity: PathBuf,
    pub(crate) peak_bytes: u64,
}

impl Report {
    pub(crate) fn is_verified(&self) -> bool {
        self.verdict
            .as_ref()
            .is_some_and(|verdict| verdict.verdict == "passed")
    }

    pub(crate) fn text(&self) -> String {
        let (manifest, totals) = (&self.manifest, &self.manifest.totals);
        let mut text = String::new();
        let mut line = |words: String| text.push_str(&format!("{words}\n"));
        let word = if self.is_verified() {
            "Verified backup"
        } else {
            "NOT a verified backup"
        };
        line(format!(
            "{word} of {}: {}, as of {}",
            self.database, manifest.backup_id, manifest.snapshot_at
        ));
        line(String::new());
        line(format!(
            "  source     PostgreSQL {} at {}:{}, database {}",
            manifest.source.server_version,
            manifest.source.host,
            manifest.source.port,
            manifest.source.database
        ));
        line(format!(
            "  contents   {} tables, {} rows, {} large objects, {} of COPY text",
            totals.tables,
            grouped(totals.rows),
            totals.large_objects,
            bytes_of(totals.copy_bytes)
        ));
        line(format!(
            "  stored     {} in {} objects, {}, encrypted for {} recipients",
            bytes_of(totals.stored_bytes),
            totals.objects,
            ratio(totals.stored_bytes, totals.copy_bytes),
            manifest.recipients.len()
        ));
        line(format!(
            "  run        {} with {} connections, {}/s; memory {} (dump), {} with pg_dump",
            seconds(manifest.run.seconds),
            manifest.run.connections,
            bytes(as_float(totals.copy_bytes) / manifest.run.seconds.max(0.001)),
            bytes_of(manifest.run.peak_memory_bytes),
            bytes_of(self.peak_bytes)
        ));
        line(format!("  verdict    {}", self.verdict_words()));
        for finding in self.verdict.iter().flat_map(|verdict| &verdict.findings) {
            line(format!("             {}", finding.message));
        }
        for note in manifest
            .left_out
            .iter()
            .map(|it| format!("left out: {it}"))
            .chain(manifest.warnings.iter().cloned())
        {
            line(format!("  note       {note}"));
        }
        line(String::new());
        text.push_str(&self.largest_tables());
        text.push_str(&self.restore());
        text
    }

    fn verdict_words(&self) -> String {
        match &self.verdict {
            Some(verdict) if verdict.verdict == "passed" => {
                "passed: every byte read back, decrypted and decoded; rows and fingerprint of every table equal".into()
            }
            Some(verdict) => format!("{}: do not rely on this backup", verdict.verdict),
            None => "none: nothing has read this backup back; do not rely on it".into(),
        }
    }

    fn largest_tables(&self) -> String {
        let mut tables: Vec<&Table> = self.manifest.tables.iter().collect();
        tables.sort_by_key(|table| std::cmp::Reverse(table.copy_bytes));
        let shown = tables.len().min(TABLES_SHOWN);
        let name = |table: &Table| format!("{}.{}", table.schema, table.name);
        let width = tables
            .iter()
            .take(shown)
            .map(|table| name(table).chars().count())
            .max()
            .unwrap_or(0)
            .max(24);
        let mut text = format!(
            "  {:<width$}  {:>12}  {:>9}  fingerprint\n",
            format!("the {shown} largest tables"),
            "rows",
            "COPY text"
        );
        for table in tables.into_iter().take(shown) {
            let (rows, size) = (grouped(table.rows), bytes_of(table.copy_bytes));
            let _infallible = writeln!(
                text,
                "  {:<width$}  {rows:>12}  {size:>9}  {}",
                name(table),
                table.fingerprint
            );
        }
        text.push('\n');
        text
    }

    /// Commands of Debian's age, zstd and postgresql-client, none of ours.
    fn restore(&self) -> String {
        let (archive, identity) = (quoted(&self.archive()), quoted(&self.identity));
        let Settings {
            encoding,
            collate,
            ctype,
        } = &self.manifest.settings;
        format!(
            "The objects are plain files in\n  {}\n\n\
             Restore with stock tools alone (age, zstd, tar, pg_restore), into an empty database:\n\
             \x20 mkdir restored\n\
             \x20 for f in {archive}/*.age; do n=${{f##*/}}; age -d -i {identity} \"$f\" >> \"restored/${{n%.*.age}}\"; done\n\
             \x20 find restored -name '*.zst' -exec zstd -d -q --rm {{}} +\n\
             \x20 find restored -name 'blobs_*.tar' -exec tar -C restored -xf {{}} \\;\n\
             \x20 createdb -T template0 -E {encoding} --lc-collate={collate} --lc-ctype={ctype} copy\n\
             \x20 pg_restore --exit-on-error -j 4 -d copy restored\n\
             (roles are in restored/roles.sql, without passwords)\n",
            self.archive().display()
        )
    }

    fn archive(&self) -> PathBuf {
        self.folder
            .join(format!("archive-{}", self.manifest.attempt))
    }

    pub(crate) fn json(&self) -> Value {
        let manifest = &self.manifest;
        let tables = manifest.tables.iter().map(|table| {
            json!({"schema": table.schema, "name": table.name, "rows": table.rows,
                "copy_bytes": table.copy_bytes, "fingerprint": table.fingerprint})
        });
        json!({
            "verified": self.is_verified(),
            "database": self.database,
            "backup_id": manifest.backup_id,
            "snapshot_at": manifest.snapshot_at,
            "verdict": self.verdict.as_ref().map(|verdict| &verdict.verdict),
            "findings": self.verdict.iter().flat_map(|verdict| &verdict.findings).map(|finding| &finding.message).collect::<Vec<_>>(),
            "tables": manifest.totals.tables,
            "rows": manifest.totals.rows,
            "large_objects": manifest.totals.large_objects,
            "copy_bytes": manifest.totals.copy_bytes,
            "stored_bytes": manifest.totals.stored_bytes,
            "objects": manifest.totals.objects,
            "seconds": manifest.run.seconds,
            "peak_memory_bytes": manifest.run.peak_memory_bytes,
            "manifest": self.folder.join("manifest.json"),
            "archive": self.archive(),
            "identity": self.identity,
            "warnings": manifest.warnings,
            "left_out": manifest.left_out,
            "table_list": tables.collect::<Vec<_>>(),
        })
    }
}

/// A path as the shell takes it.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = text
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || "/._-+:@".contains(char));
    if plain {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn ratio(stored: u64, copied: u64) -> String {
    format!(
        "{:.2} of the text",
        as_float(stored) / as_float(copied.max(1))
    )
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn as_float(number: u64) -> f64 {
    number as f64
}

fn bytes_of(number: u64) -> String {
    bytes(as_float(number))
}

/// Decimal units, as disks and networks are sold.
pub(crate) fn bytes(number: f64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(size, _)| number >= *size) {
        Some((size, unit)) if number / size < 10.0 => format!("{:.1} {unit}", number / size),
        Some((size, unit)) => format!("{:.0} {unit}", number / size),
        None => format!("{number:.0} B"),
    }
}

pub(crate) fn seconds(number: f64) -> String {
    if number < 100.0 {
        format!("{number:.0} s")
    } else {
        format!("{:.0} min", number / 60.0)
    }
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Option<&str>) -> Report {
        let manifest = json!({
            "backup_id": "20261121T010000Z-on-demand", "attempt": "a1", "snapshot_at": "2026-11-21T01:00:02Z",
            "source": {"host": "127.0.0.1", "port": 5432, "database": "harbour", "server_version": "15.18"},
            "settings": {"encoding": "UTF8", "collate": "C.UTF-8", "ctype": "C.UTF-8"},
            "recipients": ["age1a", "age1b"],
            "tables": [
                {"schema": "public", "name": "small", "rows": 3, "copy_bytes": 20, "fingerprint": "00"},
                {"schema": "public", "name": "large", "rows": 1_234_567, "copy_bytes": 200_000_000, "fingerprint": "ff"},
            ],
            "totals": {"tables": 2, "rows": 1_234_570, "copy_bytes": 200_000_020, "objects": 4, "stored_bytes": 50_000_000, "large_objects": 0},
            "run": {"connections": 2, "seconds": 4.0, "peak_memory_bytes": 70_000_000},
            "left_out": [], "warnings": ["something to know"],
        });
        Report {
            database: "harbour".into(),
            manifest: serde_json::from_value(manifest).unwrap(),
            verdict: verdict.map(|verdict| Verdict {
                verdict: verdict.into(),
                findings: Vec::new(),
            }),
            folder: "/home/me/.lifeboat/s3/vault/b".into(),
            identity: "/home/me/it's/identity.txt".into(),
            peak_bytes: 90_000_000,
        }
    }

    #[test]
    fn a_verified_backup_is_called_so_and_nothing_else_is() {
        assert!(
            report(Some("passed"))
                .text()
                .starts_with("Verified backup of harbour: 20261121T010000Z-on-demand")
        );
        for verdict in [None, Some("failed"), Some("inconclusive")] {
            let report = report(verdict);
            assert!(
                report.text().starts_with("NOT a verified backup"),
                "{verdict:?}"
            );
            assert!(!report.is_verified() && report.json()["verified"] == false);
        }
    }

    #[test]
    fn the_report_tells_the_largest_tables_first_and_how_to_restore() {
        let text = report(Some("passed")).text();
        let large = "  public.large                 1,234,567     200 MB  ff";
        assert!(text.contains(large), "{text}");
        assert!(text.find("public.large") < text.find("public.small"));
        assert!(
            text.contains("50 MB in 4 objects, 0.25 of the text"),
            "{text}"
        );
        assert!(
            text.contains("-i '/home/me/it'\\''s/identity.txt'"),
            "{text}"
        );
        assert!(text.contains("note       something to know"), "{text}");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [grouped(7), grouped(1_000), grouped(12_345_678)],
            ["7", "1,000", "12,345,678"]
        );
        assert_eq!(
            [bytes(12.0), bytes(1_500.0), bytes(2.5e9)],
            ["12 B", "1.5 kB", "2.5 GB"]
        );
        assert_eq!([seconds(7.4), seconds(600.0)], ["7 s", "10 min"]);
    }
}
