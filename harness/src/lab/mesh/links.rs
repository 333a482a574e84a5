//! The wires: a bridge on the node, and a pair of interfaces for everybody else.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};

use super::roles::{self, NODE, NODE_OUTSIDE};
use crate::lab::namespaces::{Mounts, Network, Place};

/// Puts the bridge on the node, with the node's addresses.
pub(super) fn start_node(node: &Place) -> anyhow::Result<()> {
    let [client, outside] = NODE_OUTSIDE;
    ip(
        node,
        &format!(
            "link set lo up\n\
             link add br0 type bridge\n\
             address add {NODE}/16 dev br0\n\
             address add {client}/24 dev br0\n\
             address add {outside}/24 dev br0\n\
             link set br0 up\n"
        ),
    )?;
    // The client outside and the pods reach each other through the node.
    write_setting(&node.network, "net/ipv4/ip_forward", "1")
}

/// A host with `address` on the node's bridge.
pub(super) fn connect(
    node: &Place,
    mounts: &Mounts,
    address: Ipv4Addr,
    number: usize,
    folder: &Path,
) -> anyhow::Result<Place> {
    let network = Network::create()?;
    let host = Place {
        network,
        mounts: mounts.clone(),
        folder: folder.to_path_buf(),
    };
    let [client, outside] = NODE_OUTSIDE;
    let (gateway, bits) = match address {
        roles::CLIENT => (client, 24),
        roles::OUTSIDE => (outside, 24),
        _ => (NODE, 16),
    };
    let file = host.network.file();
    ip(
        node,
        &format!(
            "link add veth{number} type veth peer name eth0 netns {}\n\
             link set veth{number} master br0 up\n",
            file.display()
        ),
    )?;
    ip(
        &host,
        &format!(
            "link set lo up\n\
             address add {address}/{bits} dev eth0\n\
             link set eth0 up\n\
             route add default via {gateway}\n"
        ),
    )?;
    // As in the pods of Istio's chart: gateways are not root and listen on 80 and 443.
    write_setting(&host.network, "net/ipv4/ip_unprivileged_port_start", "0")?;
    Ok(host)
}

/// Runs commands of `ip`.
fn ip(place: &Place, commands: &str) -> anyhow::Result<()> {
    let run = || -> anyhow::Result<()> {
        let mut child = place
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no pipe to `ip`")?;
        stdin.write_all(commands.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", stderr.trim());
        Ok(())
    };
    run().with_context(|| format!("ip -batch:\n{commands}"))
}

/// Sets a kernel parameter of a network.
fn write_setting(network: &Network, name: &str, value: &str) -> anyhow::Result<()> {
    network
        .enter(|| std::fs::write(format!("/proc/sys/{name}"), value))
        .with_context(|| format!("cannot set {name} to {value}"))
}
