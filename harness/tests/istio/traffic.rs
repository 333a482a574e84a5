//! Sends the requests of the table, and judges what comes of them.

use std::net::SocketAddr;

use meridian::lab::namespaces::Network;
use meridian::lab::topology::{Arrival, Call, Tls};

use crate::attached::Attached;
use crate::table::{Outcome, Protocol, Row, Sender, TABLE};

/// Sends every request of the table; returns what did not come as it must, a line each.
pub async fn send_all(attached: &Attached) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in TABLE {
        if let Err(why) = row.send(attached).await {
            wrong.push(format!("{} ({}): {why:#}", row.what, row.host));
        }
    }
    wrong
}

/// What clients forge: the tags, in every spelling that somebody could take for them.
const FORGED: [(&str, &str); 5] = [
    ("x-traffic-direction", "east-west"),
    ("x_traffic_direction", "east-west"),
    ("X-Traffic_Direction", "east-west"),
    ("x-traffic-evidence", "mesh-identity"),
    ("x_component_type", "system"),
];

impl Row {
    async fn send(&self, attached: &Attached) -> anyhow::Result<()> {
        let mesh = &attached.mesh;
        let network: &Network = match self.from {
            Sender::Client => &mesh.client().network,
            Sender::Pod(role) => &mesh.pod(&role).place().network,
        };
        // Nobody else sends anything: what is left over is of an earlier request.
        mesh.arrivals().take();
        let mut call = Call::new(SocketAddr::from(self.to), self.host)
            .in_network(network)
            // Neither a tag nor like one: it has to arrive.
            .header("client_id", "7");
        for (name, value) in FORGED {
            call = call.header(name, value);
        }
        match self.protocol {
            Protocol::Http => {}
            Protocol::WebSocket => {
                call = call
                    .header("connection", "Upgrade")
                    .header("upgrade", "websocket")
                    .header("sec-websocket-version", "13")
                    .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            }
            Protocol::Grpc => {
                call = call
                    .http2()
                    .method(hyper::Method::POST)
                    .header("te", "trailers")
                    .header("content-type", "application/grpc");
            }
            Protocol::Tls => call = call.tls(Tls::new(mesh.certificates(), Some(self.host), None)?),
        }
        let reply = call.send().await;
        let arrived = mesh.arrivals().take();
        let status = |expected: u16| -> anyhow::Result<()> {
            let reply = reply
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error:#}"))?;
            anyhow::ensure!(
                reply.status == expected,
                "{} {}",
                reply.status,
                reply.text()
            );
            Ok(())
        };
        let nothing_arrived = || {
            anyhow::ensure!(arrived.is_empty(), "it arrived: {arrived:?}");
            Ok(())
        };
        match self.outcome {
            Outcome::Tagged(server, [direction, evidence, component]) => {
                status(200)?;
                let arrival = one(&arrived, server)?;
                tag(arrival, "x-traffic-direction", Some(direction))?;
                tag(arrival, "x-traffic-evidence", Some(evidence))?;
                tag(arrival, "x-component-type", Some(component))?;
                no_look_alikes(arrival)
            }
            Outcome::Untagged(server) => {
                status(200)?;
                let arrival = one(&arrived, server)?;
                for name in [
                    "x-traffic-direction",
                    "x-traffic-evidence",
                    "x-component-type",
                ] {
                    tag(arrival, name, None)?;
                }
                Ok(())
            }
            Outcome::Unread(server) => {
                status(200)?;
                let arrival = one(&arrived, server)?;
                tag(arrival, "x-traffic-direction", Some("east-west"))
            }
            Outcome::Refused(code) => {
                status(code)?;
                nothing_arrived()
            }
            Outcome::GrpcRefused => {
                status(200)?;
                let reply = reply.as_ref().ok();
                let code = reply.and_then(|reply| reply.header("grpc-status"));
                anyhow::ensure!(code == Some("7"), "grpc-status {code:?}");
                nothing_arrived()
            }
            Outcome::Closed => {
                anyhow::ensure!(reply.is_err(), "an answer: {reply:?}");
                nothing_arrived()
            }
        }
    }
}

fn one<'a>(arrived: &'a [Arrival], server: &str) -> anyhow::Result<&'a Arrival> {
    match arrived {
        [arrival] if arrival.server == server => Ok(arrival),
        other => anyhow::bail!("arrived: {other:?}"),
    }
}

fn tag(arrival: &Arrival, name: &str, expected: Option<&str>) -> anyhow::Result<()> {
    let values = arrival.header(name);
    anyhow::ensure!(
        values == expected.as_slice(),
        "{name}: {values:?}, not {expected:?}"
    );
    Ok(())
}

fn no_look_alikes(arrival: &Arrival) -> anyhow::Result<()> {
    let tags = [
        "x-traffic-direction",
        "x-traffic-evidence",
        "x-component-type",
    ];
    let look_alikes: Vec<&String> = arrival
        .headers
        .iter()
        .map(|(name, _)| name)
        .filter(|name| name.contains('_') && tags.contains(&name.replace('_', "-").as_str()))
        .collect();
    anyhow::ensure!(look_alikes.is_empty(), "arrived: {look_alikes:?}");
    anyhow::ensure!(
        arrival.header("client_id") == ["7"],
        "client_id did not arrive"
    );
    Ok(())
}
