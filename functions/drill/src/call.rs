//! Asks an application, once, and only where it may be asked.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use shared::checks::session::{NO_TIME, share};
use shared::policy::{HttpCheck, Method};
use shared::secret::{Header, Secrets};

use crate::checks::address::{self, Destination};
use crate::checks::application::Answer;

const TIMEOUT_MAX: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: usize = 1 << 20;

/// The answer, and how long it took. No header's value and no body is in any message.
pub async fn call(
    check: &HttpCheck,
    database: &str,
    secrets: &Secrets,
    until: Instant,
) -> (Answer, f64) {
    let begun = Instant::now();
    let Some(share) = share(until.saturating_duration_since(begun)) else {
        return (Answer::NotRun(NO_TIME.to_owned()), 0.0);
    };
    let limit = share.min(TIMEOUT_MAX);
    let answer = match tokio::time::timeout(limit, ask(check, database, secrets)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why_not)) => Answer::NotRun(why_not),
        Err(_elapsed) => {
            let seconds = limit.as_secs_f64();
            Answer::NotRun(format!("it does not answer within {seconds:.0} s"))
        }
    };
    (answer, begun.elapsed().as_secs_f64())
}

async fn ask(check: &HttpCheck, database: &str, secrets: &Secrets) -> Result<Answer, String> {
    let destination = address::destination(&check.url, database)?;
    let headers = match &check.header_secret {
        Some(name) => secrets.headers(name).await,
        None => Ok(Vec::new()),
    };
    let headers = headers.map_err(|error| error.to_string())?;
    let addresses = resolve(&destination).await?;
    let chosen = address::choose(&addresses, check.allow_private)?;
    let response = send(check.method, &destination, chosen, headers).await?;
    let status = response.status().as_u16();
    if check.json_path.is_none() {
        let body = Vec::new();
        return Ok(Answer::Response { status, body });
    }
    Ok(match read(response).await? {
        Some(body) => Answer::Response { status, body },
        None => Answer::Refused(format!(
            "its body is larger than {} KiB",
            BODY_BYTES_MAX >> 10
        )),
    })
}

/// Once: what is checked is what is connected to.
async fn resolve(destination: &Destination) -> Result<Vec<IpAddr>, String> {
    if let Some(address) = destination.address {
        return Ok(vec![address]);
    }
    let (host, port) = (destination.host.clone(), destination.port);
    let resolved = tokio::task::spawn_blocking(move || {
        let addresses = (host.as_str(), port).to_socket_addrs()?;
        Ok::<_, std::io::Error>(addresses.map(|it| it.ip()).collect())
    });
    match resolved.await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(format!("its host cannot be resolved: {error}")),
        Err(error) => Err(format!("its host cannot be resolved: {error}")),
    }
}

async fn send(
    method: Method,
    destination: &Destination,
    chosen: IpAddr,
    headers: Vec<Header>,
) -> Result<Response, String> {
    let client = Client::builder()
        .https_only(true)
        .no_proxy()
        .redirect(Policy::none())
        .resolve(&destination.host, SocketAddr::new(chosen, destination.port))
        .build()
        .map_err(|error| without_url(error, "it cannot be asked"))?;
    let method = match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post => reqwest::Method::POST,
    };
    let mut request = client.request(method, destination.url.clone());
    for header in headers {
        request = request.header(header.name, header.value);
    }
    let sent = request.send().await;
    sent.map_err(|error| without_url(error, "it does not answer"))
}

/// `None` beyond the limit.
async fn read(mut response: Response) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let piece = response.chunk().await;
        let piece = piece.map_err(|error| without_url(error, "its answer broke off"))?;
        let Some(piece) = piece else {
            return Ok(Some(body));
        };
        if body.len() + piece.len() > BODY_BYTES_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
}

/// The query may hold what is nobody else's business.
fn without_url(error: reqwest::Error, what: &str) -> String {
    format!("{what}: {}", shared::error::chain(&error.without_url()))
}
