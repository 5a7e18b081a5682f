//! A branch that is unknown for a moment, or in a state that nobody here knows.

use std::time::{Duration, Instant};

use localcloud::neon::{NeonFault, NeonFaultAction, NeonOptions, ProjectOptions};
use reqwest::Method;
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, Mark};
use shared::neon::{Neon as Client, NewBranch, Point, Project};
use shared::policy::{ComputeUnits, ProjectId};
use shared::secret::ApiKey;

use super::client;

fn start() -> client::Project {
    let quick = NeonOptions {
        operation_delay: Duration::from_millis(5),
        ..NeonOptions::default()
    };
    client::Project::new(quick, ProjectOptions::default())
}

/// Lifeboat's own client of the same project.
fn ours(stage: &client::Project) -> Project {
    let id = ProjectId::try_from(stage.seeded.project.clone()).unwrap();
    let key = ApiKey::parse(&stage.neon.project_key(&stage.seeded.project)).unwrap();
    let client = Client::new(stage.neon.url().parse().unwrap()).unwrap();
    client.project(&id, key, Instant::now() + Duration::from_secs(300))
}

fn new(stage: &client::Project, class: Class, compute: Option<ComputeUnits>) -> NewBranch {
    let app: DatabaseName = "app".parse().unwrap();
    NewBranch {
        parent_id: stage.seeded.branch.clone(),
        point: Point::Head,
        mark: Mark::new(class, &app, "2026-11-21"),
        compute,
        expires_at: None,
    }
}

#[tokio::test]
async fn how_to_connect_is_asked_again_while_a_new_branch_is_unknown() {
    let stage = start();
    let project = ours(&stage);
    let new = new(&stage, Class::DumpSource, Some(ComputeUnits::ONE));
    let ensured = project.ensure(&new).await.unwrap();
    stage.neon.faults().add(NeonFault {
        method: Some(Method::GET),
        path: "/connection_uri".to_owned(),
        action: NeonFaultAction::NotFound,
        ..NeonFault::default()
    });
    let uri = project.connection_uri(&ensured.own, "neondb_owner", "neondb");
    uri.await.unwrap().parse().unwrap();
    let calls = stage.neon.calls();
    let asked = calls
        .iter()
        .filter(|it| it.path.ends_with("/connection_uri"));
    let answers: Vec<u16> = asked.map(|it| it.status).collect();
    assert_eq!(answers, [404, 200]);
}

#[tokio::test]
async fn a_branch_in_an_unknown_state_is_kept_unless_it_only_serves_a_run() {
    let stage = start();
    let (ours, project) = (ours(&stage), &stage.seeded.project);
    for (class, is_kept) in [(Class::Daily, true), (Class::DumpSource, false)] {
        let new = new(&stage, class, None);
        let id = ours.ensure(&new).await.unwrap().branch.id;
        stage.neon.set_state(project, &id, "quarantined").unwrap();
        let error = ours.ensure(&new).await.unwrap_err().to_string();
        assert!(error.contains("in the state quarantined"), "{error}");
        let branches = stage.neon.branches(project).unwrap();
        let is_there = branches.iter().any(|it| it.id == id);
        assert_eq!(is_there, is_kept, "{class}: {error}");
        if is_kept {
            stage.neon.set_state(project, &id, "archived").unwrap();
            let found = ours.ensure(&new).await.unwrap();
            assert_eq!((found.branch.id, found.is_new), (id, false));
        }
    }
}
