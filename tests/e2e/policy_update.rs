//! A serving Envoy takes a good policy and refuses a bad one without one failed request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use meridian::lab::prometheus::Samples;
use meridian_metrics::{DURATION, RESPONSES};
use meridian_tests::announce;
use meridian_tests::raw::{Answer, Connection, Peer, connect, http1};
use tokio::task::JoinSet;

use crate::discovered::{self, Gateway};

/// How many requests there are at least.
const REQUESTS: usize = 100_000;
/// Connections that are kept, and loops that open one for each request.
const KEPT: usize = 4;
const FRESH: usize = 2;
const DEADLINE: Duration = Duration::from_secs(60);
/// Longer than Envoy keeps what a histogram got before it shows it, 5 s.
const FLUSHED: Duration = Duration::from_secs(20);

/// The good policies in their order, and the statuses that hosts get under each.
const POLICIES: [&str; 3] = [
    r#"{"metrics": {"responses": true, "durations": true}, "mesh": {"cidrs": ["127.1.0.0/16"]}, "hosts": {"ingress": {"rules": [
        {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"}]}}}"#,
    r#"{"metrics": {"responses": true, "durations": true}, "mesh": {"cidrs": ["127.1.0.0/16"]}, "hosts": {"ingress": {"rules": [
        {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"},
        {"name": "turn", "hosts": ["turn.example.com"], "action": "allow"}]}}}"#,
    r#"{"metrics": {"responses": true, "durations": true}, "mesh": {"cidrs": ["127.1.0.0/16"]}, "deny": {"status": 451}, "hosts": {"ingress": {"rules": [
        {"name": "shop", "hosts": ["shop.example.com"], "action": "allow"},
        {"name": "turn", "hosts": ["turn.example.com"], "action": "deny"}]}}}"#,
];
const HOSTS: [(&str, [u16; 3]); 3] = [
    ("shop.example.com", [200, 200, 200]),
    ("turn.example.com", [403, 200, 451]),
    ("other.example.com", [403, 403, 451]),
];

/// Bad policies, none of which would go unseen if it were taken.
const BAD: [&str; 4] = [
    r#"{"hosts": {"ingress": {"default": "allow", "rule": []}}}"#,
    r#"{"hosts": {"ingress": {"default": "allow""#,
    "",
    r#"{"deny": {"status": 200}, "hosts": {"ingress": {"default": "deny"}}}"#,
];

enum Update {
    Good(usize),
    Bad(usize),
}

const UPDATES: [Update; 6] = [
    Update::Bad(0),
    Update::Good(1),
    Update::Bad(1),
    Update::Bad(2),
    Update::Good(2),
    Update::Bad(3),
];

/// What the clients and the updates share.
#[derive(Debug)]
struct Load {
    server: SocketAddr,
    sent: AtomicUsize,
    allowed: AtomicUsize,
    /// The newest good policy that may be in force.
    published: AtomicUsize,
    /// True once the last update is over.
    is_over: AtomicBool,
}

impl Load {
    async fn connect(&self) -> anyhow::Result<Connection> {
        let peer = Peer::Tcp {
            server: self.server,
            source: [127, 9, 0, 1].into(),
        };
        connect(&peer).await
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst) || self.sent.load(Ordering::SeqCst) < REQUESTS
    }

    /// Sends one request and gives the policy that answered: the first from `least` on that gives
    /// this status. A connection is one worker's, so it never sees an earlier policy again.
    async fn policy_that_answers(
        &self,
        connection: &mut Connection,
        (host, statuses): (&str, [u16; 3]),
        least: usize,
    ) -> anyhow::Result<usize> {
        let request =
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-traffic-direction: east-west\r\n\r\n");
        let answer = http1::exchange(&mut *connection.stream, request.as_bytes(), DEADLINE).await?;
        self.sent.fetch_add(1, Ordering::SeqCst);
        let response = match answer {
            Answer::Response(response) => response,
            Answer::Reset(why) => anyhow::bail!("{host}: {why}"),
        };
        let allowed = response.status == 200;
        self.allowed
            .fetch_add(usize::from(allowed), Ordering::SeqCst);
        let tag = response.header("x-arrived");
        ensure!(
            tag == allowed.then_some(b"north-south"),
            "{host}: {response:?}"
        );
        let published = self.published.load(Ordering::SeqCst);
        (least..=published)
            .find(|policy| statuses[*policy] == response.status)
            .with_context(|| {
                format!("{host} after policy {least}, with {published} published: {response:?}")
            })
    }

    /// Asks for every host.
    async fn ask_all(
        &self,
        connection: &mut Connection,
        mut policy: usize,
    ) -> anyhow::Result<usize> {
        for host in HOSTS {
            policy = self.policy_that_answers(connection, host, policy).await?;
        }
        Ok(policy)
    }

    async fn keep(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let mut policy = 0;
        while self.goes_on() {
            policy = self.ask_all(&mut connection, policy).await?;
        }
        let last = self.ask_all(&mut connection, policy).await?;
        ensure!(
            last == POLICIES.len() - 1,
            "policy {last} is in force at the end"
        );
        Ok(())
    }

    async fn reconnect(&self) -> anyhow::Result<()> {
        while self.goes_on() {
            for host in HOSTS {
                let mut connection = self.connect().await?;
                self.policy_that_answers(&mut connection, host, 0).await?;
            }
        }
        Ok(())
    }

    async fn reaches(&self, requests: usize) {
        while self.sent.load(Ordering::SeqCst) < requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_under_load_fail_no_request() -> anyhow::Result<()> {
    let mut gateway = Gateway::start("policy-update", POLICIES[0], 2).await?;
    let load = Arc::new(Load {
        server: gateway.address,
        sent: AtomicUsize::new(0),
        allowed: AtomicUsize::new(0),
        published: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    for number in 0..KEPT + FRESH {
        let load = Arc::clone(&load);
        clients.spawn(async move {
            if number < KEPT {
                load.keep().await
            } else {
                load.reconnect().await
            }
        });
    }
    let serving = async {
        while let Some(client) = clients.join_next().await {
            client??;
        }
        anyhow::Ok(())
    };
    let updating = async {
        update(&mut gateway, &load).await?;
        load.is_over.store(true, Ordering::SeqCst);
        anyhow::Ok(())
    };
    // The first failed request ends both.
    tokio::try_join!(serving, updating)
        .with_context(|| format!("Envoy's log is {}", gateway.envoy.log_path().display()))?;

    let [sent, allowed] = [&load.sent, &load.allowed].map(|count| count.load(Ordering::SeqCst));
    ensure!(sent >= REQUESTS, "only {sent} requests");
    let samples = Samples::parse(&gateway.envoy.scrape().await?)?;
    for (decision, expected) in [("allow", allowed), ("deny", sent - allowed)] {
        let counted = samples.value("meridian_requests_total", &[("decision", decision)]);
        ensure!(
            counted == expected as f64,
            "{counted} {decision}, not {expected}"
        );
    }
    let classes = [
        ("2xx", allowed),
        ("4xx", sent - allowed),
        ("5xx", 0),
        ("none", 0),
    ];
    for (class, expected) in classes {
        let counted = samples.value(RESPONSES.name, &[("response_code_class", class)]);
        ensure!(
            counted == expected as f64,
            "{counted} {class}, not {expected}"
        );
    }
    let count = format!("{}_count", DURATION.name);
    let deadline = Instant::now() + FLUSHED;
    loop {
        let samples = Samples::parse(&gateway.envoy.scrape().await?)?;
        let observed = samples.value(&count, &[("direction", "north-south")]);
        if observed == sent as f64 {
            break;
        }
        ensure!(
            observed < sent as f64 && Instant::now() < deadline,
            "{observed} durations, not {sent}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    announce(&format!(
        "{sent} requests through {} updates of the policy",
        UPDATES.len()
    ));
    Ok(())
}

/// Publishes every update, spread over the load, and waits until Envoy has taken or refused it.
async fn update(gateway: &mut Gateway, load: &Load) -> anyhow::Result<()> {
    let (mut taken, mut refused) = (1, 0);
    for (index, update) in UPDATES.iter().enumerate() {
        load.reaches((index + 1) * REQUESTS / (UPDATES.len() + 1))
            .await;
        let policy = match update {
            Update::Good(number) => {
                taken += 1;
                load.published.store(*number, Ordering::SeqCst);
                POLICIES[*number]
            }
            Update::Bad(number) => {
                refused += 1;
                BAD[*number]
            }
        };
        gateway.publish(discovered::text(policy))?;
        gateway.reaches((taken, refused)).await?;
    }
    Ok(())
}
