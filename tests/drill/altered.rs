//! Backups that were exchanged in the vault, with everything that describes them made to match.

use std::io::{BufReader, Cursor, Read, Write};

use age::x25519::Identity;
use serde_json::json;
use shared::archive::{read_directory, write_directory};
use shared::manifest::{Content, Manifest, Object};
use shared::opened::{Opened, Stored};
use shared::sealed::{Sealer, recipients};

use super::rehearsal::{Rehearsal, check};

const ROWS: &str =
    "CREATE TABLE notes AS SELECT i, 'note ' || i AS text FROM generate_series(1, 200) i;
    CREATE TABLE secrets (id int);
    ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
    CREATE POLICY nobody ON secrets USING (false);";

/// Who may write to the vault past every rule, and knows the keys.
struct Forger<'a> {
    rehearsal: &'a Rehearsal,
    manifest_key: String,
    manifest: Manifest,
}

impl<'a> Forger<'a> {
    async fn of(rehearsal: &'a Rehearsal) -> Self {
        let subject = &rehearsal.subject;
        let objects = subject.cloud.objects("VaultBucket").await.unwrap();
        let prefix = format!("backups/{}/", subject.name);
        let is_manifest =
            |key: &String| key.starts_with(&prefix) && key.ends_with("/manifest.json");
        let manifest_key = objects.into_keys().find(is_manifest).unwrap();
        let json = subject
            .cloud
            .object("VaultBucket", &manifest_key)
            .await
            .unwrap();
        Self {
            rehearsal,
            manifest_key,
            manifest: Manifest::parse(&json).unwrap(),
        }
    }

    fn identity(&self) -> Identity {
        let file = self.rehearsal.subject.cloud.home().join("identity.txt");
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().find_map(|line| line.parse().ok()).unwrap()
    }

    fn object(&self, is_wanted: impl Fn(&Object) -> bool) -> usize {
        self.manifest.objects.iter().position(is_wanted).unwrap()
    }

    /// The rows of a table, if they are in one object.
    fn rows_of(&self, table: &str) -> usize {
        let table = self
            .manifest
            .tables
            .iter()
            .find(|it| it.name == table)
            .unwrap();
        let dump_id = table.dump_id;
        self.object(
            |it| matches!(it.content, Content::TableData { dump_id: id, .. } if id == dump_id),
        )
    }

    /// Changes the plain content of an object, seals it again, and makes its entry match.
    async fn change(&mut self, index: usize, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let cloud = self.rehearsal.subject.cloud;
        let object = self.manifest.objects[index].clone();
        let bytes = cloud.object("VaultBucket", &object.key).await.unwrap();
        let is_compressed = object.content != Content::TableOfContents;
        let length = bytes.len() as u64;
        let mut stored = Stored::new(BufReader::new(Cursor::new(bytes)), length);
        let mut plain = Vec::new();
        Opened::new(&mut stored, &[self.identity()], is_compressed)
            .unwrap()
            .read_to_end(&mut plain)
            .unwrap();
        let keys = recipients(&self.manifest.recipients).unwrap();
        let level = is_compressed.then_some(1);
        let mut sealer = Sealer::new(Vec::new(), &keys, level).unwrap();
        sealer.write_all(&change(plain)).unwrap();
        let sealed = sealer.finish().unwrap();
        let described = &mut self.manifest.objects[index];
        described.sha256 = sealed.sha256;
        described.stored_bytes = sealed.stored_bytes;
        cloud
            .overwrite("VaultBucket", &object.key, sealed.out)
            .await
            .unwrap();
    }

    /// Makes the manifest's numbers about a table match, the fingerprint excepted.
    fn claim(&mut self, table: &str, index: usize, rows: u64, copy_bytes: u64) {
        let described = self
            .manifest
            .tables
            .iter_mut()
            .find(|it| it.name == table)
            .unwrap();
        (described.rows, described.copy_bytes) = (rows, copy_bytes);
        if let Content::TableData {
            rows: r,
            copy_bytes: c,
            ..
        } = &mut self.manifest.objects[index].content
        {
            (*r, *c) = (rows, copy_bytes);
        }
    }

    /// A drill of this very backup, verified or not.
    async fn drill(&self) -> localcloud::Execution {
        let id = self.manifest.backup_id.to_string();
        self.rehearsal.drill(&json!({"backup_id": id})).await
    }

    async fn write_manifest(&self) {
        let json = self.manifest.to_json().unwrap();
        let cloud = self.rehearsal.subject.cloud;
        cloud
            .overwrite("VaultBucket", &self.manifest_key, json)
            .await
            .unwrap();
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn one_altered_byte_with_everything_but_the_fingerprint_made_to_match_is_found() {
    let rehearsal = Rehearsal::new("altered-byte", ROWS, "").await;
    let mut forger = Forger::of(&rehearsal).await;
    let notes = forger.rows_of("notes");
    let change = |plain| {
        text(plain)
            .replacen("note 77\n", "nota 77\n", 1)
            .into_bytes()
    };
    forger.change(notes, change).await;
    forger.write_manifest().await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(
            &ended,
            &["public.notes: 200 rows as in the backup, but some of them are changed"],
        )
        .await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "rows")["status"], "passed");
    assert_eq!(check(&evidence, "fingerprints")["status"], "failed");
    // And the exchange itself, since it came after the verdict.
    assert_eq!(check(&evidence, "manifest_unchanged")["status"], "failed");
    let codes = evidence["findings"].to_string();
    assert!(
        codes.contains("fingerprint_differs") && codes.contains("manifest_changed"),
        "{codes}"
    );
}

#[tokio::test]
async fn missing_and_extra_rows_are_counted() {
    let rehearsal = Rehearsal::new("altered-rows", ROWS, "").await;
    let mut forger = Forger::of(&rehearsal).await;
    let notes = forger.rows_of("notes");
    forger
        .change(notes, |plain| {
            text(plain).replacen("77\tnote 77\n", "", 1).into_bytes()
        })
        .await;
    forger.write_manifest().await;
    let ended = forger.drill().await;
    rehearsal
        .assert_not_proven(&ended, &["it has 199 rows"])
        .await;

    // The same with the numbers of the manifest made to match.
    let described = forger
        .manifest
        .tables
        .iter()
        .find(|it| it.name == "notes")
        .unwrap();
    let (rows, copy_bytes) = (described.rows, described.copy_bytes);
    forger.claim("notes", notes, rows - 1, copy_bytes - 11);
    forger.write_manifest().await;
    let ended = forger.drill().await;
    rehearsal.assert_not_proven(&ended, &["public.notes"]).await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "fingerprints")["status"], "failed");

    let change = |plain| {
        text(plain)
            .replacen("78\tnote 78\n", "78\tnote 78\n78\tnote 78\n79\textra\n", 1)
            .into_bytes()
    };
    forger.change(notes, change).await;
    forger.claim("notes", notes, rows + 1, copy_bytes + 9);
    forger.write_manifest().await;
    let ended = forger.drill().await;
    rehearsal.assert_not_proven(&ended, &["public.notes"]).await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "fingerprints")["status"], "failed");
}

#[tokio::test]
async fn a_backup_of_another_database_is_named_and_not_restored() {
    let one = Rehearsal::new("foreign-one", ROWS, "").await;
    let two = Rehearsal::new("foreign-two", "CREATE TABLE other AS SELECT 1 AS i", "").await;
    let (mine, theirs) = (Forger::of(&one).await, Forger::of(&two).await);
    let json = theirs.manifest.to_json().unwrap();
    let cloud = one.subject.cloud;
    cloud
        .overwrite("VaultBucket", &mine.manifest_key, json)
        .await
        .unwrap();
    let ended = one.drill(&json!({})).await;
    one.assert_not_proven(&ended, &["foreign-two"]).await;
    let verdict = one.drill_verdicts().await.pop().unwrap();
    assert_eq!(verdict["verdict"], "failed", "{verdict:#}");
    assert_eq!(
        verdict["findings"][0]["code"], "manifest_foreign",
        "{verdict:#}"
    );
}

#[tokio::test]
async fn an_edited_table_of_contents_is_found_by_its_checksum_or_by_the_verdict_on_it() {
    let rehearsal = Rehearsal::new("altered-contents", ROWS, "").await;
    let mut forger = Forger::of(&rehearsal).await;
    let contents = forger.object(|it| it.content == Content::TableOfContents);
    let without_policy = |plain: Vec<u8>| {
        let mut toc = read_directory(&*plain).unwrap();
        toc.entries.retain(|it| !it.is("POLICY"));
        write_directory(&toc).unwrap()
    };
    forger.change(contents, without_policy).await;
    // The manifest is still the one that was verified.
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_not_proven(&ended, &["toc.dat"]).await;
    let verdict = rehearsal.drill_verdicts().await.pop().unwrap();
    assert_eq!(verdict["verdict"], "failed", "{verdict:#}");

    // Made to match: the copy equals the edited contents, but not what was verified.
    forger.write_manifest().await;
    let ended = forger.drill().await;
    rehearsal.assert_not_proven(&ended, &["manifest"]).await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "catalog_policies")["status"], "passed");
    let found = check(&evidence, "manifest_unchanged");
    assert_eq!(found["status"], "failed");
    assert!(
        found["summary"].as_str().unwrap().contains("-verify.json"),
        "{found}"
    );
}

#[tokio::test]
async fn damage_that_a_drill_finds_takes_the_word_verified_away() {
    let rehearsal = Rehearsal::new("no-longer-verified", ROWS, "").await;
    let mut forger = Forger::of(&rehearsal).await;
    let notes = forger.rows_of("notes");
    forger
        .change(notes, |plain| {
            text(plain).replacen("note 9\n", "nota 9\n", 1).into_bytes()
        })
        .await;
    forger.write_manifest().await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_not_proven(&ended, &["notes"]).await;
    // It was the only one, so the next drill has none to take.
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(&ended, &["has no verified backup"])
        .await;
}
