//! What becomes of a process of a running topology that ends by itself: it is told at once, and by choice
//! the process is started again.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::nginx::Nginx;
use super::running::Topology;
use crate::lab::envoy::Envoy;

/// How long a process rests before it is started again; twice as long each time that it does not last.
const FIRST_REST: Duration = Duration::from_millis(500);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// A process that has run this long has lasted.
const LASTED: Duration = Duration::from_secs(60);

/// What becomes of a process that has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// It stays away, and all else goes on.
    Leave,
    /// It is started again, after a rest.
    Restart,
}

/// A process of the topology.
#[derive(Clone, Copy)]
enum Process<'a> {
    Envoy(&'a Envoy),
    Nginx(&'a Nginx),
}

impl Topology {
    /// Watches over every process until this is dropped, and tells of each that ends by itself, with
    /// its last lines, and of each that is started again.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub async fn watch_over(
        &self,
        on_end: OnEnd,
        tell: &dyn Fn(&str),
    ) -> anyhow::Result<Infallible> {
        let nginx = self.nginx.as_ref().map(Process::Nginx);
        let processes = self.envoys().map(Process::Envoy).chain(nginx);
        let mut watches: Vec<Pin<Box<dyn Future<Output = anyhow::Result<Infallible>>>>> = processes
            .map(|process| {
                Box::pin(watch(process, on_end, tell)) as Pin<Box<dyn Future<Output = _>>>
            })
            .collect();
        poll_fn(|context| {
            for watch in &mut watches {
                if let Poll::Ready(failed) = watch.as_mut().poll(context) {
                    return Poll::Ready(failed);
                }
            }
            Poll::Pending
        })
        .await
    }
}

async fn watch(
    process: Process<'_>,
    on_end: OnEnd,
    tell: &dyn Fn(&str),
) -> anyhow::Result<Infallible> {
    let mut rest = FIRST_REST;
    loop {
        let since = Instant::now();
        tell(&process.ended().await?);
        if on_end == OnEnd::Leave {
            std::future::pending::<Infallible>().await;
        }
        if since.elapsed() >= LASTED {
            rest = FIRST_REST;
        }
        loop {
            tell(&format!(
                "{process} is started again in {} s",
                rest.as_secs_f32()
            ));
            tokio::time::sleep(rest).await;
            rest = LONGEST_REST.min(rest * 2);
            match process.restart().await {
                Ok(()) => break,
                Err(error) => tell(&format!("{error:#}")),
            }
        }
        tell(&format!("{process} runs again, where it was"));
    }
}

impl Process<'_> {
    async fn ended(self) -> anyhow::Result<String> {
        match self {
            Self::Envoy(envoy) => envoy.ended().await,
            Self::Nginx(nginx) => nginx.ended().await,
        }
    }

    async fn restart(self) -> anyhow::Result<()> {
        match self {
            Self::Envoy(envoy) => envoy.restart().await,
            Self::Nginx(nginx) => nginx.restart().await,
        }
    }
}

impl std::fmt::Display for Process<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Envoy(envoy) => write!(f, "Envoy `{}`", envoy.name()),
            Self::Nginx(_) => f.write_str("NGINX"),
        }
    }
}
