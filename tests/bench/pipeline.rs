//! The programs that people use today, run as people run them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::measured::{Measured, Usage};
use crate::stage::{DATABASE, Paths};
use crate::{Error, check};

/// What a pipeline took.
pub(crate) struct Taken {
    pub(crate) wall: Duration,
    pub(crate) programs: Vec<Usage>,
}

/// A started program does not outlive whoever waits for it.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(measured: &mut Measured) -> std::io::Result<Self> {
        measured.command.spawn().map(Self)
    }

    pub(crate) fn end(mut self, name: &str) -> Result<(), Error> {
        check(self.0.wait()?.success(), name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless something before it failed.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// `pg_dump -Fc | aws s3 cp - <to>`
pub(crate) fn custom(paths: &Paths, level: Option<u8>, to: &str) -> Result<Taken, Error> {
    let mut dump = pg_dump(paths)?;
    dump.command.arg("-Fc");
    if let Some(level) = level {
        dump.command.arg(format!("-Z{level}"));
    }
    dump.command.stdout(Stdio::piped());
    let mut upload = aws(paths)?;
    upload
        .command
        .args(["s3", "cp", "--only-show-errors", "-", to]);

    let begun = Instant::now();
    let mut dumping = Running::start(&mut dump)?;
    let rows = dumping.0.stdout.take().ok_or("pg_dump has no output")?;
    upload.command.stdin(rows);
    let uploading = Running::start(&mut upload)?;
    // Our own end of the pipe would keep it open.
    upload.command.stdin(Stdio::null());
    dumping.end("pg_dump")?;
    uploading.end("aws")?;
    let wall = begun.elapsed();
    Ok(Taken {
        wall,
        programs: vec![dump.usage()?, upload.usage()?],
    })
}

/// `pg_dump -Fd -jN`, then `aws s3 sync`: the stock way to use more than one connection.
pub(crate) fn directory(paths: &Paths, connections: u32, to: &str) -> Result<Taken, Error> {
    let folder = paths.work.join("directory");
    let mut dump = pg_dump(paths)?;
    dump.command.args(["-Fd", "-j", &connections.to_string()]);
    dump.command.arg("-f").arg(&folder);
    let mut upload = aws(paths)?;
    upload.command.args(["s3", "sync", "--only-show-errors"]);
    upload.command.arg(&folder).arg(to);

    let begun = Instant::now();
    Running::start(&mut dump)?.end("pg_dump")?;
    Running::start(&mut upload)?.end("aws")?;
    let wall = begun.elapsed();
    fs::remove_dir_all(&folder)?;
    Ok(Taken {
        wall,
        programs: vec![dump.usage()?, upload.usage()?],
    })
}

/// Our own program as a reader that forgets; its orders are in a file.
pub(crate) fn floor(paths: &Paths, orders: &Path) -> Result<Taken, Error> {
    let mut floor = Measured::new(&paths.work, "floor", &std::env::current_exe()?)?;
    floor.command.arg(crate::floor::COMMAND);
    floor.command.stdin(File::open(orders)?);

    let begun = Instant::now();
    Running::start(&mut floor)?.end("the floor")?;
    let wall = begun.elapsed();
    let mut usage = floor.usage()?;
    usage.program = "COPY".to_owned();
    Ok(Taken {
        wall,
        programs: vec![usage],
    })
}

fn pg_dump(paths: &Paths) -> std::io::Result<Measured> {
    let mut measured = Measured::new(&paths.work, "pg_dump", &paths.pg_dump)?;
    measured.command.envs(&paths.postgres_environment);
    measured.command.env("PGDATABASE", DATABASE);
    Ok(measured)
}

pub(crate) fn aws(paths: &Paths) -> std::io::Result<Measured> {
    let mut measured = Measured::new(&paths.work, "aws", &paths.aws)?;
    measured.command.envs(&paths.aws_environment);
    // Nobody's own settings.
    for file in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
        measured.command.env(file, "/dev/null");
    }
    for name in [
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "HTTP_PROXY",
        "http_proxy",
    ] {
        measured.command.env_remove(name);
    }
    Ok(measured)
}
