//! The sample traffic: who asks whom for what, and which proxies stand between them.

use std::net::IpAddr;

use meridian_policy::{Principal, Request, Subject, Vantage};

use super::stage::Stage;
use crate::lab::config::cluster::{outbound, service_host};
use crate::lab::topology::roles::{
    CONSOLE, INGRESS_PRINCIPAL, NGINX_PRINCIPAL, ORDERS, SHOP, Workload,
};
use crate::lab::topology::{Call, FETCH, Tls};

/// A host that leads to `shop`.
const SHOP_HOST: &str = "shop.example.com";

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
    /// Of a request that the workload before this hop makes itself: its authority. Nothing of the
    /// request that it got is in it.
    pub(super) own_request: Option<String>,
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
    /// What the filter here knows of a request for `authority`, less the tag.
    pub(super) fn request<'s>(&'s self, authority: &'s str) -> Request<'s> {
        Request {
            authority: authority.as_bytes(),
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
pub(super) fn all(stage: &Stage<'_>) -> anyhow::Result<Vec<Scenario>> {
    let way = Ways { stage };
    let client = stage.outside_client;
    let mut scenarios = vec![
        way.ingress(
            "an outside client asks for an allowed host",
            client,
            "shop.example.com",
            &SHOP,
        ),
        way.ingress(
            "… for a host that no rule names",
            client,
            "intranet.example.com",
            &SHOP,
        ),
        way.ingress(
            "… for a host that a rule denies",
            client,
            "admin.apps.example.com",
            &ORDERS,
        ),
        way.ingress(
            "… for an allowed host, under a forged tag",
            client,
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
            client,
            "shop.example.com@evil.example",
            &SHOP,
        )
        .raw(),
        way.ingress(
            "a pod hairpins through the ingress gateway",
            stage.pod_client,
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
    stage: &'t Stage<'t>,
}

impl Ways<'_> {
    fn ingress(
        &self,
        title: &str,
        client: IpAddr,
        authority: &str,
        workload: &Workload,
    ) -> Scenario {
        let gateway = if client == self.stage.pod_client {
            self.stage.ingress_from_inside
        } else {
            self.stage.ingress_http
        };
        let call = Call::new(gateway, authority).from(client);
        self.through_ingress(title, client, call, authority, None, workload)
    }

    fn https(
        &self,
        title: &str,
        sni: &str,
        authority: &str,
        workload: &Workload,
    ) -> anyhow::Result<Scenario> {
        let tls = Tls::believing(&self.stage.authorities, Some(sni), None)?;
        let client = self.stage.outside_client;
        let call = Call::new(self.stage.ingress_https, authority)
            .from(client)
            .tls(tls)
            .http2();
        Ok(self.through_ingress(title, client, call, authority, Some(sni), workload))
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
        let mut gateway = hop(self.stage.ingress(), Vantage::Ingress, client, None);
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
        let hops = vec![
            self.outbound(outbound(80, &host)),
            self.inbound(&ORDERS, SHOP.address.into(), &SHOP.principal()),
        ];
        self.shop_asks(title, authority, hops, ORDERS.name)
    }

    fn egress(&self, title: &str, authority: &str) -> Scenario {
        let gateway = service_host("istio-egress", "istio-egress");
        let egress = hop(
            self.stage.egress(),
            Vantage::Egress,
            SHOP.address.into(),
            Principal::parse(&SHOP.principal()),
        );
        let hops = vec![self.outbound(outbound(80, &gateway)), egress];
        self.shop_asks(title, authority, hops, authority)
    }

    /// TLS from end to end: the gateway passes it on, or closes it, by the server name.
    fn passthrough(&self, title: &str, host: &str) -> anyhow::Result<Scenario> {
        let tls = Tls::believing(&self.stage.authorities, Some(host), None)?;
        let client = self.stage.pod_client;
        let call = Call::new(self.stage.egress_passthrough, host)
            .from(client)
            .tls(tls);
        let egress = self.stage.egress();
        let mut gateway = hop(egress, Vantage::Egress, client, None);
        gateway.subject = Subject::Connection;
        gateway.destination_port = Some(self.stage.egress_passthrough.port());
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
        let nginx = self.stage.nginx?;
        let client = self.stage.outside_client;
        let authority = "console.system.example.com";
        let mut inbound = self.inbound(&CONSOLE, client, NGINX_PRINCIPAL);
        inbound.forwarded = true;
        Some(Scenario {
            title: title.to_owned(),
            client: client.to_string(),
            call: Call::new(nginx, authority).from(client),
            raw: None,
            authority: authority.to_owned(),
            forged_tag: None,
            hops: vec![inbound],
            destination: CONSOLE.name.to_owned(),
            via: Some("NGINX"),
        })
    }

    /// `shop` asks for `authority`, by itself, or because a client outside asks it to.
    fn shop_asks(
        &self,
        title: &str,
        authority: &str,
        hops: Vec<Hop>,
        destination: &str,
    ) -> Scenario {
        let Some(outbound) = self.stage.shop_outbound else {
            let client = self.stage.outside_client;
            let call = Call::new(self.stage.ingress_http, SHOP_HOST)
                .from(client)
                .path(&format!("{FETCH}{authority}/"));
            let mut asked = self.through_ingress(title, client, call, SHOP_HOST, None, &SHOP);
            let mut hops = hops;
            if let Some(first) = hops.first_mut() {
                first.own_request = Some(authority.to_owned());
            }
            asked.hops.extend(hops);
            asked.destination = destination.to_owned();
            return asked;
        };
        Scenario {
            title: title.to_owned(),
            client: SHOP.name.to_owned(),
            call: Call::new(outbound, authority).from(SHOP.address),
            raw: None,
            authority: authority.to_owned(),
            forged_tag: None,
            hops,
            destination: destination.to_owned(),
            via: None,
        }
    }

    fn outbound(&self, cluster: String) -> Hop {
        let mut hop = hop(
            self.stage.sidecar(&SHOP),
            Vantage::Outbound,
            SHOP.address.into(),
            None,
        );
        hop.cluster = Some(cluster);
        hop.namespace = Some(SHOP.namespace);
        hop
    }

    fn inbound(&self, workload: &Workload, source: IpAddr, peer: &str) -> Hop {
        let envoy = self.stage.sidecar(workload);
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
        own_request: None,
        cluster: None,
        forwarded: false,
        namespace: None,
    }
}
