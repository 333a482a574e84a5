//! Where the sample traffic plays: the loopback topology of this process, or the compose project that
//! this process is a service of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use rustls::pki_types::CertificateDer;

use crate::lab::compose::{HTTP_PORT, METRICS_PORT, Networks, PASSTHROUGH_PORT, TLS_PORT};
use crate::lab::prometheus::Samples;
use crate::lab::topology::roles::{OUTSIDE_CLIENT, SHOP, WORKLOADS, Workload};
use crate::lab::topology::{Arrival, Call, Reply, Topology, read_certificate};

/// Where a project's clients see the CAs' certificates.
const AUTHORITIES: &str = "/etc/certs";

/// Addresses and names, and ways to look.
pub(super) struct Stage<'t> {
    pub(super) ingress_http: SocketAddr,
    pub(super) ingress_https: SocketAddr,
    /// For a pod without a sidecar.
    pub(super) ingress_from_inside: SocketAddr,
    pub(super) egress_passthrough: SocketAddr,
    pub(super) nginx: Option<SocketAddr>,
    /// Where `shop` sends its own requests; `None` where it has to be asked to make one.
    pub(super) shop_outbound: Option<SocketAddr>,
    /// The address of a client outside.
    pub(super) outside_client: IpAddr,
    /// The address of a pod.
    pub(super) pod_client: IpAddr,
    /// The CAs that a client believes.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    topology: Option<&'t Topology>,
    /// Where the metrics of each proxy are.
    proxies: BTreeMap<String, SocketAddr>,
}

impl<'t> Stage<'t> {
    /// In the loopback topology, where the client is whoever it wants to be.
    pub(super) fn topology(topology: &'t Topology) -> Self {
        let envoys = topology.envoys();
        Self {
            ingress_http: topology.ingress.http.v4,
            ingress_https: topology.ingress.https.v4,
            ingress_from_inside: topology.ingress.http.v4,
            egress_passthrough: topology.egress.tls_passthrough.v4,
            nginx: topology.nginx.as_ref().map(|nginx| nginx.address()),
            shop_outbound: Some(topology.sidecar(&SHOP).outbound.v4),
            outside_client: OUTSIDE_CLIENT,
            pod_client: SHOP.address.into(),
            authorities: topology.certificates.roots().into(),
            topology: Some(topology),
            proxies: envoys
                .map(|envoy| (envoy.name().to_owned(), envoy.admin()))
                .collect(),
        }
    }

    /// In a compose project, from a container that has an address inside and one outside.
    ///
    /// # Errors
    /// If the CAs' certificates are not where the project has them.
    pub(super) fn compose(networks: &Networks) -> anyhow::Result<Self> {
        let Networks {
            inside, outside, ..
        } = *networks;
        let mut proxies = BTreeMap::from([
            ("ingress".to_owned(), Networks::ingress(inside)),
            ("egress".to_owned(), Networks::egress(inside)),
        ]);
        proxies
            .extend(WORKLOADS.map(|workload| (workload.name.to_owned(), networks.pod(&workload))));
        let ca = |name: &str| read_certificate(&Path::new(AUTHORITIES).join(name));
        Ok(Self {
            ingress_http: (Networks::ingress(outside), HTTP_PORT).into(),
            ingress_https: (Networks::ingress(outside), TLS_PORT).into(),
            ingress_from_inside: (Networks::ingress(inside), HTTP_PORT).into(),
            egress_passthrough: (Networks::egress(inside), PASSTHROUGH_PORT).into(),
            nginx: Some((Networks::nginx(outside), HTTP_PORT).into()),
            shop_outbound: None,
            outside_client: Networks::client(outside).into(),
            pod_client: Networks::client(inside).into(),
            authorities: vec![ca("mesh-ca.pem")?, ca("public-ca.pem")?],
            topology: None,
            proxies: proxies
                .into_iter()
                .map(|(name, address)| (name, (address, METRICS_PORT).into()))
                .collect(),
        })
    }

    /// The name of the ingress gateway's Envoy.
    pub(super) fn ingress(&self) -> &str {
        self.topology
            .map_or("ingress", |topology| topology.ingress.envoy.name())
    }

    /// The name of the egress gateway's Envoy.
    pub(super) fn egress(&self) -> &str {
        self.topology
            .map_or("egress", |topology| topology.egress.envoy.name())
    }

    /// The name of a sidecar's Envoy.
    pub(super) fn sidecar(&self, workload: &Workload) -> &str {
        self.topology.map_or(workload.name, |topology| {
            topology.sidecar(workload).envoy.name()
        })
    }

    /// Forgets what arrived so far.
    pub(super) fn forget_arrivals(&self) {
        if let Some(topology) = self.topology {
            topology.arrivals().take();
        }
    }

    /// What arrived at the end of the way since, as the server there tells, or its answer.
    pub(super) fn arrival(&self, reply: Option<&Reply>) -> Option<Arrival> {
        match self.topology {
            Some(topology) => topology.arrivals().take().pop(),
            None => serde_json::from_slice(&reply?.body).ok(),
        }
    }

    /// The metrics of every proxy, by its name.
    ///
    /// # Errors
    /// If a proxy does not answer, or with something else.
    pub(super) async fn scrape(&self) -> anyhow::Result<BTreeMap<String, Samples>> {
        let mut scraped = BTreeMap::new();
        for (name, address) in &self.proxies {
            let call = Call::new(*address, "metrics").path("/stats/prometheus");
            let reply = call
                .send()
                .await
                .with_context(|| format!("the metrics of {name}"))?;
            anyhow::ensure!(
                reply.status == 200,
                "the metrics of {name}: {} answered {}",
                address,
                reply.status
            );
            scraped.insert(name.clone(), Samples::parse(&reply.text())?);
        }
        Ok(scraped)
    }
}
