//! Getting sealed bytes into the vault: parts while an object grows, small objects by a pool
//! of their own, all under one memory budget. Nothing large exists until [`Uploads::commit`].

use std::collections::HashMap;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::store::{Bucket, Part, StoreErrorKind, Upload, Written};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::error::DumpError;
use crate::stop::Stop;

/// The smallest that keeps a part's requests cheap beside its bytes.
const PART_BYTES: usize = 8 << 20;
/// From this part on they are larger, so that 10,000 of them reach 200 GB.
const LARGER_FROM: i32 = 5_000;
const LARGER_PART_BYTES: usize = 32 << 20;
/// S3's own limit.
const PARTS_MAX: i32 = 10_000;
/// Requests at a time for small objects and for completing.
const POOL: usize = 16;
/// How often whoever waits for memory looks whether the run was stopped.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The budget counts in these.
const UNIT: usize = 64 << 10;

#[derive(Debug)]
pub struct Uploads {
    bucket: Bucket,
    handle: Handle,
    stop: Arc<Stop>,
    memory: Arc<Semaphore>,
    memory_units: u32,
    /// From here on there is only time to clean up.
    until: Instant,
    pool: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    open: Mutex<Vec<Arc<OpenUpload>>>,
    written: Arc<Mutex<HashMap<String, Written>>>,
}

#[derive(Debug)]
struct OpenUpload {
    upload: Upload,
    parts: Mutex<Vec<Part>>,
    /// Known when the last part has been handed over.
    whole: Mutex<Option<Whole>>,
}

/// What a complete upload consists of.
#[derive(Clone, Copy, Debug)]
struct Whole {
    parts: usize,
    stored_bytes: u64,
}

impl OpenUpload {
    /// All parts in order: one that is missing must never make a shorter object.
    fn complete_parts(&self) -> Result<(Vec<Part>, u64), DumpError> {
        let mut parts = lock(&self.parts).clone();
        let whole = lock(&self.whole).ok_or(DumpError::Internal("an object has no end"))?;
        if parts.len() != whole.parts {
            return Err(DumpError::Internal("a part is missing"));
        }
        parts.sort_by_key(Part::number);
        Ok((parts, whole.stored_bytes))
    }
}

impl Uploads {
    /// `buffers`: how many parts may be on their way at a time. `until`: when waiting for the
    /// storage ends.
    pub fn new(
        bucket: Bucket,
        handle: Handle,
        stop: Arc<Stop>,
        buffers: u32,
        until: Instant,
    ) -> Self {
        let memory_units = buffers.max(1) * (PART_BYTES / UNIT) as u32;
        Self {
            bucket,
            handle,
            stop,
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            until,
            pool: Arc::new(Semaphore::new(POOL)),
            tasks: Mutex::new(JoinSet::new()),
            open: Mutex::new(Vec::new()),
            written: Arc::new(Mutex::new(HashMap::new())),
        }
    }

    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// A new object; bytes written to it are on their way, but it does not exist yet.
    pub fn object(self: &Arc<Self>, key: String) -> ObjectWriter {
        ObjectWriter {
            uploads: Arc::clone(self),
            key,
            buffer: Vec::new(),
            bytes: 0,
            next_part: 1,
            open: None,
        }
    }

    /// Waits for everything that is on its way.
    pub fn settle(&self) -> Result<(), DumpError> {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        self.in_time(async {
            while let Some(ended) = tasks.join_next().await {
                if ended.is_err() {
                    self.stop.fail(DumpError::Internal("an upload panicked"));
                }
            }
            Ok(())
        })?;
        self.stop.check()
    }

    fn in_time<T>(&self, work: impl Future<Output = Result<T, DumpError>>) -> Result<T, DumpError> {
        self.handle.block_on(async {
            let work = tokio::time::timeout_at(self.until.into(), work).await;
            work.unwrap_or(Err(DumpError::UploadsOutOfTime))
        })
    }

    /// Makes the large objects exist; returns where everything ended up, by key.
    pub fn commit(&self) -> Result<HashMap<String, Written>, DumpError> {
        self.settle()?;
        let open = lock(&self.open).clone();
        self.in_time(async {
            let mut tasks = JoinSet::new();
            for upload in open {
                let (parts, stored_bytes) = upload.complete_parts()?;
                let (bucket, pool) = (self.bucket.clone(), Arc::clone(&self.pool));
                tasks.spawn(async move {
                    // The pool is never closed.
                    let _place = pool.acquire().await;
                    let written = bucket.complete(&upload.upload, parts, stored_bytes).await;
                    (upload.upload.key.clone(), written)
                });
            }
            while let Some(done) = tasks.join_next().await {
                let (key, written) = done.map_err(|_| DumpError::Internal("completing"))?;
                lock(&self.written).insert(key, written?);
            }
            Ok::<(), DumpError>(())
        })?;
        Ok(lock(&self.written).clone())
    }

    /// Ends what is on its way and forgets every open upload. Small objects that exist already
    /// stay behind under this attempt's name, which nothing refers to.
    pub fn abort(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let open = std::mem::take(&mut *lock(&self.open));
        self.handle.block_on(async {
            tasks.shutdown().await;
            for upload in open {
                if let Err(error) = self.bucket.abort(&upload.upload).await {
                    // The run has failed already; the bucket's lifecycle ends it in a day.
                    tracing::warn!(error = shared::error::chain(&error), "upload not aborted");
                }
            }
        });
    }

    fn spawn(
        &self,
        bytes: usize,
        task: impl Future<Output = Result<(), DumpError>> + Send + 'static,
    ) {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        // What needs more than there is in all gets all of it.
        let units = units.min(self.memory_units);
        let Some(memory) = self.acquire(units) else {
            return;
        };
        let stop = Arc::clone(&self.stop);
        let task = async move {
            let _memory = memory;
            if let Err(error) = task.await {
                stop.fail(error);
            }
        };
        lock(&self.tasks).spawn_on(task, &self.handle);
    }
}

impl Uploads {
    /// Waits for memory, but not for a storage that has stopped taking bytes: `None` once the run was stopped.
    fn acquire(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        self.handle.block_on(async {
            let mut memory = pin!(Arc::clone(&self.memory).acquire_many_owned(units));
            while !self.stop.is_stopped() {
                if let Ok(memory) = tokio::time::timeout(LOOK_EVERY, memory.as_mut()).await {
                    // The semaphore is never closed.
                    return memory.ok();
                }
            }
            None
        })
    }
}

/// Takes the sealed bytes of one object.
#[derive(Debug)]
pub struct ObjectWriter {
    uploads: Arc<Uploads>,
    key: String,
    buffer: Vec<u8>,
    bytes: u64,
    next_part: i32,
    open: Option<Arc<OpenUpload>>,
}

impl ObjectWriter {
    fn part_bytes(&self) -> usize {
        if self.next_part < LARGER_FROM {
            PART_BYTES
        } else {
            LARGER_PART_BYTES
        }
    }

    fn send_part(&mut self) -> io::Result<()> {
        let open = match &self.open {
            Some(open) => Arc::clone(open),
            None => self.begin()?,
        };
        if self.next_part > PARTS_MAX {
            return Err(io::Error::other(format!(
                "{} has more than {PARTS_MAX} parts",
                self.key
            )));
        }
        let number = self.next_part;
        self.next_part += 1;
        let bytes = std::mem::take(&mut self.buffer);
        let bucket = self.uploads.bucket.clone();
        self.uploads.spawn(bytes.len(), async move {
            let part = bucket
                .upload_part(&open.upload, number, bytes.into())
                .await?;
            lock(&open.parts).push(part);
            Ok(())
        });
        Ok(())
    }

    fn begin(&mut self) -> io::Result<Arc<OpenUpload>> {
        let uploads = &self.uploads;
        let upload = uploads
            .handle
            .block_on(uploads.bucket.create_upload(&self.key));
        let upload = upload.map_err(|error| {
            // The caller only learns that writing failed; the cause is kept here.
            uploads.stop.fail(error.into());
            io::Error::other("the upload could not begin")
        })?;
        let open = Arc::new(OpenUpload {
            upload,
            parts: Mutex::new(Vec::new()),
            whole: Mutex::new(None),
        });
        lock(&uploads.open).push(Arc::clone(&open));
        self.open = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Hands the rest over. An object of less than a part is written by the pool at once.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(open) = self.open.clone() {
            if !self.buffer.is_empty() {
                self.send_part()?;
            }
            *lock(&open.whole) = Some(Whole {
                parts: usize::try_from(self.next_part - 1).unwrap_or_default(),
                stored_bytes: self.bytes,
            });
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        let key = std::mem::take(&mut self.key);
        let bucket = self.uploads.bucket.clone();
        let pool = Arc::clone(&self.uploads.pool);
        let written = Arc::clone(&self.uploads.written);
        self.uploads.spawn(bytes.len(), async move {
            let _place = pool.acquire().await;
            let put = match bucket.put_once(&key, bytes.into()).await {
                // The key is of this attempt alone: an earlier try's answer was lost.
                Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => {
                    Written::default()
                }
                put => put?,
            };
            lock(&written).insert(key, put);
            Ok(())
        });
        Ok(())
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.uploads.stop.is_stopped() {
            return Err(io::Error::other("the run was stopped"));
        }
        let n = bytes.len().min(self.part_bytes() - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        self.bytes += n as u64;
        if self.buffer.len() == self.part_bytes() {
            self.send_part()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
