//! The sample traffic: who asks whom for what, and which proxies stand between them.

use std::net::IpAddr;

use meridian_policy::{Principal, Request, Subject, Vantage};

use crate::lab::config::cluster::{outbound, service_host};
use crate::lab::topology::roles::{
    CONSOLE, INGRESS_PRINCIPAL, NGINX_PRINCIPAL, ORDERS, OUTSIDE_CLIENT, SHOP, Workload,
};
use crate::lab::topology::{Call, Tls, Topology};

/// One request of the demo.
pub(super) struct Scenario {
    /// What happens, in a few words.
    pub(super) title: String,
    /// Where the request comes from.
    pub(super) client: String,
    /// How it is sent.
    pub(super) call: Call,
    /// What is sent instead, byte for byte, where a client library would tidy it.
    pub(super) raw: Option<Vec<u8>>,
    /// The authority as it is sent.
    pub(super) authority: String,
    /// A tag that the client has no right to.
    pub(super) forged_tag: Option<&'static str>,
    /// The filters on the way, in order.
    pub(super) hops: Vec<Hop>,
    /// The server at the end of the way.
    pub(super) destination: String,
    /// A proxy on the way that runs no filter.
    pub(super) via: Option<&'static str>,
}

/// A filter on the way of a request, and the evidence that it gets beside the authority and tag.
pub(super) struct Hop {
    pub(super) envoy: String,
    pub(super) vantage: Vantage,
    source: IpAddr,
    peer: Option<Principal>,
    /// What it decides on.
    pub(super) subject: Subject,
    destination_port: Option<u16>,
    sni: Option<String>,
    cluster: Option<String>,
    forwarded: bool,
    namespace: Option<&'static str>,
}

impl Hop {
    /// What the filter here knows of the scenario's request, less the tag.
    pub(super) fn request<'s>(&'s self, scenario: &'s Scenario) -> Request<'s> {
        Request {
            authority: scenario.authority.as_bytes(),
            source: Some(self.source),
            destination_port: self.destination_port,
            peer: self.peer.clone(),
            sni: self.sni.as_deref().map(str::as_bytes),
            tls: self.sni.is_some() || self.peer.is_some(),
            cluster: self.cluster.as_deref(),
            forwarded: self.forwarded,
            namespace: self.namespace,
            ..Request::default()
        }
    }
}

/// Every scenario. Those through NGINX are left out where it is not installed.
///
/// # Errors
/// If the client's TLS cannot be set up.
pub(super) fn all(topology: &Topology) -> anyhow::Result<Vec<Scenario>> {
    let way = Ways { topology };
    let mut scenarios = vec![
        way.ingress(
            "an outside client asks for an allowed host",
            OUTSIDE_CLIENT,
            "shop.example.com",
            &SHOP,
        ),
        way.ingress(
            "… for a host that no rule names",
            OUTSIDE_CLIENT,
            "intranet.example.com",
            &SHOP,
        ),
        way.ingress(
            "… for a host that a rule denies",
            OUTSIDE_CLIENT,
            "admin.apps.example.com",
            &ORDERS,
        ),
        way.ingress(
            "… for an allowed host, under a forged tag",
            OUTSIDE_CLIENT,
            "shop.example.com",
            &SHOP,
        )
        .forge("east-west"),
        way.https(
            "… over TLS and HTTP/2",
            "shop.example.com",
            "shop.example.com",
            &SHOP,
        )?,
        way.https(
            "… over a TLS connection for another host",
            "shop.example.com",
            "cart.apps.example.com",
            &ORDERS,
        )?,
        way.ingress(
            "… for an invalid host",
            OUTSIDE_CLIENT,
            "shop.example.com@evil.example",
            &SHOP,
        )
        .raw(),
        way.ingress(
            "a pod hairpins through the ingress gateway",
            IpAddr::V4(SHOP.address),
            "cart.apps.example.com",
            &ORDERS,
        ),
        way.mesh("an application calls an application"),
        way.egress(
            "an application calls an allowed host outside",
            "api.partner.example",
        ),
        way.egress("… a host outside that a rule denies", "tracker.example"),
        way.egress(
            "… a host outside that no rule names",
            "mirror.partner.example",
        ),
        way.passthrough(
            "an application speaks TLS to an allowed host outside",
            "api.partner.example",
        )?,
        way.passthrough("… to a host outside that a rule denies", "tracker.example")?,
    ];
    scenarios.extend(way.nginx("an outside client asks NGINX for a system component"));
    scenarios.extend(
        way.nginx("… under a forged tag")
            .map(|scenario| scenario.forge("east-west")),
    );
    Ok(scenarios)
}

impl Scenario {
    /// True if a filter decides on the connection, so that a refusal is an end without an answer.
    pub(super) fn is_passthrough(&self) -> bool {
        self.hops
            .iter()
            .any(|hop| hop.subject == Subject::Connection)
    }

    /// The client claims a direction, in two headers of different case.
    fn forge(mut self, tag: &'static str) -> Self {
        self.call = self
            .call
            .header("x-traffic-direction", tag)
            .header("X-Traffic-Direction", tag);
        self.forged_tag = Some(tag);
        self
    }

    /// The request goes out byte for byte.
    fn raw(mut self) -> Self {
        self.raw = Some(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.authority).into_bytes());
        self
    }
}

struct Ways<'t> {
    topology: &'t Topology,
}

impl Ways<'_> {
    fn ingress(
        &self,
        title: &str,
        client: IpAddr,
        authority: &str,
        workload: &Workload,
    ) -> Scenario {
        let call = Call::new(self.topology.ingress.http.v4, authority).from(client);
        self.through_ingress(title, client, call, authority, None, workload)
    }

    fn https(
        &self,
        title: &str,
        sni: &str,
        authority: &str,
        workload: &Workload,
    ) -> anyhow::Result<Scenario> {
        let tls = Tls::new(&self.topology.certificates, Some(sni), None)?;
        let call = Call::new(self.topology.ingress.https.v4, authority)
            .from(OUTSIDE_CLIENT)
            .tls(tls)
            .http2();
        Ok(self.through_ingress(title, OUTSIDE_CLIENT, call, authority, Some(sni), workload))
    }

    fn through_ingress(
        &self,
        title: &str,
        client: IpAddr,
        call: Call,
        authority: &str,
        sni: Option<&str>,
        workload: &Workload,
    ) -> Scenario {
        let mut gateway = hop(
            self.topology.ingress.envoy.name(),
            Vantage::Ingress,
            client,
            None,
        );
        gateway.sni = sni.map(str::to_owned);
        let mut inbound = self.inbound(workload, client, INGRESS_PRINCIPAL);
        inbound.forwarded = true;
        Scenario {
            title: title.to_owned(),
            client: client.to_string(),
            call,
            raw: None,
            authority: authority.to_owned(),
            forged_tag: None,
            hops: vec![gateway, inbound],
            destination: workload.name.to_owned(),
            via: None,
        }
    }

    fn mesh(&self, title: &str) -> Scenario {
        let authority = "orders.orders";
        let host = service_host(ORDERS.name, ORDERS.namespace);
        Scenario {
            title: title.to_owned(),
            client: SHOP.name.to_owned(),
            call: self.shop_calls(authority),
            raw: None,
            authority: authority.to_owned(),
            forged_tag: None,
            hops: vec![
                self.outbound(outbound(80, &host)),
                self.inbound(&ORDERS, SHOP.address.into(), &SHOP.principal()),
            ],
            destination: ORDERS.name.to_owned(),
            via: None,
        }
    }

    fn egress(&self, title: &str, authority: &str) -> Scenario {
        let gateway = service_host("istio-egress", "istio-egress");
        let egress = hop(
            self.topology.egress.envoy.name(),
            Vantage::Egress,
            SHOP.address.into(),
            Principal::parse(&SHOP.principal()),
        );
        Scenario {
            title: title.to_owned(),
            client: SHOP.name.to_owned(),
            call: self.shop_calls(authority),
            raw: None,
            authority: authority.to_owned(),
            forged_tag: None,
            hops: vec![self.outbound(outbound(80, &gateway)), egress],
            destination: authority.to_owned(),
            via: None,
        }
    }

    /// TLS from end to end: the gateway passes it on, or closes it, by the server name.
    fn passthrough(&self, title: &str, host: &str) -> anyhow::Result<Scenario> {
        let tls = Tls::new(&self.topology.certificates, Some(host), None)?;
        let call = Call::new(self.topology.egress.tls_passthrough.v4, host)
            .from(SHOP.address)
            .tls(tls);
        let egress = self.topology.egress.envoy.name();
        let mut gateway = hop(egress, Vantage::Egress, SHOP.address.into(), None);
        gateway.subject = Subject::Connection;
        gateway.destination_port = Some(self.topology.egress.tls_passthrough.v4.port());
        gateway.sni = Some(host.to_owned());
        Ok(Scenario {
            title: title.to_owned(),
            client: SHOP.name.to_owned(),
            call,
            raw: None,
            authority: host.to_owned(),
            forged_tag: None,
            hops: vec![gateway],
            destination: host.to_owned(),
            via: None,
        })
    }

    fn nginx(&self, title: &str) -> Option<Scenario> {
        let nginx = self.topology.nginx.as_ref()?;
        let authority = "console.system.example.com";
        let mut inbound = self.inbound(&CONSOLE, OUTSIDE_CLIENT, NGINX_PRINCIPAL);
        inbound.forwarded = true;
        Some(Scenario {
            title: title.to_owned(),
            client: OUTSIDE_CLIENT.to_string(),
            call: Call::new(nginx.address(), authority).from(OUTSIDE_CLIENT),
            raw: None,
            authority: authority.to_owned(),
            forged_tag: None,
            hops: vec![inbound],
            destination: CONSOLE.name.to_owned(),
            via: Some("NGINX"),
        })
    }

    fn shop_calls(&self, authority: &str) -> Call {
        Call::new(self.topology.sidecar(&SHOP).outbound.v4, authority).from(SHOP.address)
    }

    fn outbound(&self, cluster: String) -> Hop {
        let mut hop = hop(
            self.topology.sidecar(&SHOP).envoy.name(),
            Vantage::Outbound,
            SHOP.address.into(),
            None,
        );
        hop.cluster = Some(cluster);
        hop.namespace = Some(SHOP.namespace);
        hop
    }

    fn inbound(&self, workload: &Workload, source: IpAddr, peer: &str) -> Hop {
        let envoy = self.topology.sidecar(workload).envoy.name();
        let mut hop = hop(envoy, Vantage::Inbound, source, Principal::parse(peer));
        hop.namespace = Some(workload.namespace);
        hop
    }
}

fn hop(envoy: &str, vantage: Vantage, source: IpAddr, peer: Option<Principal>) -> Hop {
    Hop {
        envoy: envoy.to_owned(),
        vantage,
        source,
        peer,
        subject: Subject::Request,
        destination_port: None,
        sni: None,
        cluster: None,
        forwarded: false,
        namespace: None,
    }
}
