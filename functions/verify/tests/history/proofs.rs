//! What drills make of `verified` and `proven`.

use serde_json::json;
use shared::key::Key;
use shared::verdict::{Check, Code, Finding, Verdict};

use super::{LAST_NIGHT, TONIGHT, World, name};

impl World {
    /// The database `app`.
    fn drilled(&self, id: &str, verdict: Verdict, at: &str, codes: &[Code]) {
        let finding = |code: &Code| Finding {
            code: *code,
            object: None,
            window: None,
            message: String::new(),
        };
        let findings = codes.iter().map(finding).collect();
        self.found(("app", id), (Check::Drill, verdict), at, findings);
    }
}

const DRILLED: &str = "[database.drill]\ntarget = \"standby\"\n";

#[tokio::test]
async fn what_stays_below_proven_longer_than_its_objective_is_overdue() {
    let world = World::with(&["app"], DRILLED).await;
    let proof = async |now: &str| {
        let watched = world.watch(now).await;
        let database = &watched["databases"][0];
        (
            database["proof_overdue_minutes"].clone(),
            database["last_proven"].clone(),
        )
    };
    // Nothing was taken yet: it is the backup that is overdue.
    assert_eq!(proof("2026-11-21T01:30:00Z").await.0, 0);
    world.verified("app", LAST_NIGHT);
    world.verified("app", TONIGHT);
    // Never proven: counted from the oldest backup.
    assert_eq!(proof("2026-11-28T01:00:00Z").await, (json!(0), json!(null)));
    assert_eq!(proof("2026-11-28T01:05:00Z").await, (json!(5), json!(null)));

    // A drill that could not tell, and one that failed, prove nothing.
    let at = "2026-11-22T02:10:00Z";
    world.drilled(LAST_NIGHT, Verdict::Failed, at, &[Code::ViewBroken]);
    world.drilled(
        TONIGHT,
        Verdict::Inconclusive,
        at,
        &[Code::DrillInterrupted],
    );
    assert_eq!(proof("2026-11-28T01:05:00Z").await, (json!(5), json!(null)));

    world.drilled(TONIGHT, Verdict::Passed, "2026-11-22T03:10:00Z", &[]);
    let proven = json!(TONIGHT);
    assert_eq!(
        proof("2026-11-28T01:05:00Z").await,
        (json!(0), proven.clone())
    );
    assert_eq!(proof("2026-11-29T01:01:00Z").await, (json!(1), proven));
    // A later verify that fails ends it.
    world.judged("app", TONIGHT, Verdict::Failed, "2026-11-22T04:10:00Z");
    assert_eq!(proof("2026-11-28T01:05:00Z").await, (json!(5), json!(null)));
}

const ON_NEON: &str =
    "[database.neon]\nproject = \"autumn-disk-484331\"\nrole = \"owner\"\ndatabase = \"appdb\"\n";

#[tokio::test]
async fn a_database_on_neon_is_overdue_when_no_branch_of_it_was_drilled_for_forty_days() {
    let world = World::of("neon", &["app"], ON_NEON).await;
    let drill = async |now: &str| {
        let watched = world.watch(now).await;
        let database = &watched["databases"][0];
        (
            database["branch_drill_overdue_minutes"].clone(),
            database["last_branch_drill"].clone(),
        )
    };
    let held = |at: &str, file: &str| {
        let record = Key::Evidence {
            database: &name("app"),
            at: at.parse().unwrap(),
            nonce: "0a1b2c3d",
            file,
        };
        world.s3.write(record, "{}");
    };
    // Without a backup it is the backup that is overdue.
    assert_eq!(drill("2027-01-10T01:00:00Z").await, (json!(0), json!(null)));
    world.verified("app", LAST_NIGHT);
    // Never held: counted from the oldest backup.
    assert_eq!(drill("2026-12-30T01:00:00Z").await, (json!(0), json!(null)));
    assert_eq!(drill("2026-12-30T01:05:00Z").await, (json!(5), json!(null)));
    // What else is written down every day, and a drill of the future, are none.
    held("2026-12-30T01:00:00Z", "posture.json");
    held("2026-12-30T01:00:00Z", "drill.json");
    held("2030-12-01T03:00:00Z", "branch.json");
    assert_eq!(drill("2026-12-30T01:05:00Z").await, (json!(5), json!(null)));
    held("2026-11-02T03:00:00Z", "branch.json");
    held("2026-12-01T03:00:00Z", "branch.json");
    let last = json!("2026-12-01T03:00:00Z");
    assert_eq!(
        drill("2026-12-30T01:05:00Z").await,
        (json!(0), last.clone())
    );
    assert_eq!(drill("2027-01-10T03:01:00Z").await, (json!(1), last));
}

#[tokio::test]
async fn a_failed_drill_takes_verified_away_only_where_the_bytes_are_wrong() {
    for (code, expected) in [
        (Code::ChecksumDiffers, json!(LAST_NIGHT)),
        (Code::ManifestChanged, json!(LAST_NIGHT)),
        (Code::TocUnreadable, json!(LAST_NIGHT)),
        // Seen on the drill's server only, which would find them in every backup if it is at fault.
        (Code::RowsDiffer, json!(TONIGHT)),
        (Code::FingerprintDiffers, json!(TONIGHT)),
        (Code::LargeObjectsDiffer, json!(TONIGHT)),
        (Code::CatalogDiffers, json!(TONIGHT)),
        (Code::RestoreFailed, json!(TONIGHT)),
        (Code::AssertionFailed, json!(TONIGHT)),
    ] {
        let world = World::with(&["app"], DRILLED).await;
        world.verified("app", LAST_NIGHT);
        world.verified("app", TONIGHT);
        world.drilled(TONIGHT, Verdict::Failed, "2026-11-22T02:10:00Z", &[code]);
        let watched = world.watch("2026-11-22T02:30:00Z").await;
        assert_eq!(
            watched["databases"][0]["last_verified"], expected,
            "{code:?}"
        );
    }
}
