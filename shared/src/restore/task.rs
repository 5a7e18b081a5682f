//! One job on its way: its object from the bucket, a session, one transaction.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::jobs::{Job, Work};
use super::ledger::Numbers;
use super::run::{Context, Ended, Failure, lock};
use super::select::{Stage, describe};
use super::session::{Mode, Session};
use super::statements::{Part, qualified, sql};
use super::{RestoreError, large_objects, load, prove, remedy};
use crate::body::{Body, Source, body};

/// Everything that it needs, and that outlives whoever waits for it.
pub(super) struct Task {
    pub(super) context: Arc<Context>,
    pub(super) fetched: Arc<AtomicU64>,
    pub(super) index: usize,
    pub(super) until: Instant,
}

impl Task {
    pub(super) async fn run(self, session: Option<Session>) -> Ended {
        let began = Instant::now();
        let index = self.index;
        let (outcome, session) = match self.object() {
            None => self.blocking(session, None).await,
            Some(object) => self.with_body(session, object).await,
        };
        Ended {
            index,
            session,
            outcome,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    fn object(&self) -> Option<usize> {
        match &self.context.program.jobs[self.index].work {
            Work::Load { object, .. } | Work::LargeObjects { object } => Some(*object),
            Work::Statements(_)
            | Work::Create(_)
            | Work::Analyze(_)
            | Work::Measure(_)
            | Work::ProveTable { .. }
            | Work::ProveSequences(_)
            | Work::ProveLargeObjects { .. } => None,
        }
    }

    async fn with_body(
        self,
        session: Option<Session>,
        object: usize,
    ) -> (Result<Numbers, Failure>, Option<Session>) {
        let context = Arc::clone(&self.context);
        let object = &context.manifest.objects[object];
        let (fetched, of_this) = (Arc::clone(&self.fetched), AtomicU64::new(0));
        let source = Source {
            bucket: &context.vault,
            key: &object.key,
            version_id: object.version_id.as_deref(),
            fetched_bytes: [&of_this, &fetched],
        };
        let until = tokio::time::Instant::from_std(self.until);
        let open = source.bucket.open(source.key, source.version_id, 0);
        let opened = match tokio::time::timeout_at(until, open).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return (Err(Failure::Store(error)), session),
            Err(_) => return (Err(Failure::Cut), session),
        };
        let (feed, body) = body();
        // Dropped at the deadline, the feed ends the thread's reading.
        let feed = tokio::time::timeout_at(until, source.feed(opened, feed));
        let (fed, (outcome, session)) = tokio::join!(feed, self.blocking(session, Some(body)));
        let outcome = match (outcome, fed) {
            (Err(Failure::Storage(_)), Ok(Err(error))) => Err(Failure::Store(error)),
            (Err(Failure::Storage(_)), Err(_)) => Err(Failure::Cut),
            (outcome, _) => outcome,
        };
        (outcome, session)
    }

    async fn blocking(
        self,
        session: Option<Session>,
        body: Option<Body>,
    ) -> (Result<Numbers, Failure>, Option<Session>) {
        let thread = tokio::task::spawn_blocking(move || {
            let mut session = session;
            let outcome = self.on_thread(&mut session, body);
            (outcome, session)
        });
        match thread.await {
            Ok(ended) => ended,
            Err(error) => (Err(Failure::Internal(error.to_string())), None),
        }
    }

    fn on_thread(
        &self,
        slot: &mut Option<Session>,
        body: Option<Body>,
    ) -> Result<Numbers, Failure> {
        let context = &*self.context;
        let job = &context.program.jobs[self.index];
        let mode = if job.stage == Stage::Proof {
            Mode::Reading
        } else {
            Mode::Loading
        };
        let session = match slot {
            Some(session) => session,
            None => slot.insert(Session::open(&context.url).map_err(Failure::Error)?),
        };
        let handles = session.handles(&context.url).map_err(Failure::Server)?;
        // Whatever waits for the server from here on can be ended.
        let outcome = if context.board.add(self.index, handles) {
            let entered = session.enter(context, mode).map_err(Failure::Error);
            entered.and_then(|()| work(context, session, job, body))
        } else {
            Err(Failure::Cut)
        };
        let is_lost = outcome.is_err() && session.connection.query("ROLLBACK").is_err();
        context.board.remove(self.index);
        if is_lost {
            *slot = None;
        }
        outcome
    }
}

/// One transaction, from its claim to its record.
fn work(
    context: &Context,
    session: &mut Session,
    job: &Job,
    body: Option<Body>,
) -> Result<Numbers, Failure> {
    let connection = &mut session.connection;
    let body = || body.ok_or_else(|| Failure::Internal("no body".to_owned()));
    let object = |place: usize| &context.manifest.objects[place];
    let toc = &*context.toc;
    let numbers = match &job.work {
        Work::Load {
            copy,
            object: place,
            is_last,
        } => {
            let copy = (copy.sql(toc), *is_last);
            load::load(
                context,
                connection,
                job,
                (&copy.0, copy.1),
                (object(*place), body()?),
            )
        }
        Work::LargeObjects { object: place } => {
            large_objects::load(context, connection, job, (object(*place), body()?))
        }
        Work::Statements(statements) => execute(context, session, job, statements),
        Work::Create(statements) => {
            let sql = [context.ledger.begin(job).as_bytes(), statements].concat();
            let done = connection.query(sql).map_err(Failure::of);
            done.map(|_| Numbers::default())
        }
        Work::Analyze(places) => {
            let begin = context.ledger.begin(job);
            let mut sql = begin.into_bytes();
            for place in places {
                sql.extend(b"ANALYZE ");
                sql.extend(qualified(&toc.entries[*place]));
                sql.extend(b";");
            }
            let done = connection.query(sql).map_err(Failure::of);
            done.map(|_| Numbers::default())
        }
        Work::Measure(places) => {
            let units: Vec<_> = places
                .iter()
                .map(|it| &context.program.units[*it])
                .collect();
            prove::sizes(context, connection, job, &units)
        }
        Work::ProveTable { unit, slice } => {
            let unit = &context.program.units[*unit];
            prove::table(context, connection, job, (unit, *slice))
        }
        Work::ProveSequences(places) => prove::sequences(context, connection, job, (toc, places)),
        Work::ProveLargeObjects { entry } => {
            let oids = toc.large_objects_of(&toc.entries[*entry]);
            prove::large_objects(context, connection, job, &oids)
        }
    }?;
    let end = context.ledger.end(job, &numbers);
    session.connection.query(end).map_err(Failure::of)?;
    if let (Work::Measure(_), Some(found)) = (&job.work, &numbers.found) {
        *lock(&context.sizes) = serde_json::from_str(found).unwrap_or_default();
    }
    Ok(numbers)
}

fn execute(
    context: &Context,
    session: &mut Session,
    job: &Job,
    statements: &[(usize, Part)],
) -> Result<Numbers, Failure> {
    let connection = &mut session.connection;
    let mut before = context.ledger.begin(job).into_bytes();
    for (place, part) in statements {
        let entry = &context.toc.entries[*place];
        let sql = sql(&context.toc, entry, *part).map_err(|it| Failure::Error(it.into()))?;
        if sql.is_empty() {
            continue;
        }
        let sql = [&std::mem::take(&mut before)[..], &sql].concat();
        if let Err(source) = connection.query(sql) {
            let failure = Failure::of(source);
            let Failure::Server(source) = failure else {
                return Err(failure);
            };
            let is_definition = job.stage == Stage::Pre;
            let source = if is_definition {
                source
            } else {
                source.without_values()
            };
            return Err(Failure::Error(RestoreError::Job {
                what: describe(entry),
                remedy: remedy::of(&source).to_owned(),
                source: Box::new(source),
            }));
        }
    }
    if !before.is_empty() {
        connection.query(before).map_err(Failure::of)?;
    }
    Ok(Numbers::default())
}
