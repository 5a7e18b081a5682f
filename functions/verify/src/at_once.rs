//! The same question about many databases.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Enough to hide the storage's delay for hundreds of databases.
const AT_ONCE_MAX: usize = 16;

/// Asks about each of `items`, some at once; the answers come in the order of the items.
///
/// The first error ends all.
pub(crate) async fn ask_each<T, A, E, F>(
    items: impl IntoIterator<Item = T>,
    ask: impl Fn(T) -> F,
) -> Result<Vec<A>, E>
where
    A: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<A, E>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut asked = JoinSet::new();
    for (position, item) in items.into_iter().enumerate() {
        let (permits, answer) = (Arc::clone(&permits), ask(item));
        asked.spawn(async move {
            // Never closed.
            let _permit = permits.acquire().await;
            (position, answer.await)
        });
    }
    let mut answers = BTreeMap::new();
    while let Some(ended) = asked.join_next().await {
        match ended {
            Ok((position, answer)) => answers.insert(position, answer?),
            // Nothing is aborted but by dropping all, so it panicked.
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
    }
    Ok(answers.into_values().collect())
}
