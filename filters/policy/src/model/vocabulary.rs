//! The closed sets of words that policies, labels, tags and explanations share.

use crate::document::reader::Word;

/// Defines an enumeration whose values have one spelling everywhere: in the policy document, in
/// metric labels, in headers and in JSON.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The place of this value in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The word for this value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value of exactly this word; case matters, as in Envoy's and Istio's enumerations.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl Word for $name {
            const ALL: &'static [Self] = Self::ALL;
            const WORDS: &'static [&'static str] = &[$($word,)+];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// Where a filter stands when it looks at a request; also the metric label `reporter`.
    Vantage {
        /// The ingress gateway.
        Ingress = "ingress",
        /// The egress gateway.
        Egress = "egress",
        /// A sidecar, for requests to its workload.
        Inbound = "inbound",
        /// A sidecar, for requests of its workload.
        Outbound = "outbound",
    }
}

impl Vantage {
    /// True at the gateways, false at a sidecar.
    pub const fn is_gateway(self) -> bool {
        matches!(self, Self::Ingress | Self::Egress)
    }
}

words! {
    /// What is decided on.
    Subject {
        /// An HTTP request.
        Request = "request",
        /// A connection whose bytes pass unread: TLS passthrough and plain TCP.
        Connection = "connection",
    }
}

words! {
    /// Whether a request crosses the cluster's edge.
    Direction {
        /// It enters or leaves the cluster.
        NorthSouth = "north-south",
        /// It stays inside.
        EastWest = "east-west",
        /// The evidence is missing. Never a synonym of east-west.
        Unknown = "unknown",
    }
}

words! {
    /// What a [`Direction`] was concluded from.
    DirectionEvidence {
        /// The peer's certificate names an identity of the mesh.
        MeshIdentity = "mesh-identity",
        /// The source address is in `mesh.cidrs`.
        MeshSource = "mesh-source",
        /// The source address is outside `mesh.cidrs`.
        OutsideSource = "outside-source",
        /// The source address may be a client's own claim in `x-forwarded-for`.
        ForwardedSource = "forwarded-source",
        /// There is no source address: a Unix socket.
        NoSource = "no-source",
        /// The tag of an ingress gateway that runs the filter.
        GatewayTag = "gateway-tag",
        /// The peer is an ingress gateway.
        IngressGateway = "ingress-gateway",
        /// The route's cluster is a service of the mesh.
        MeshCluster = "mesh-cluster",
        /// The route's cluster is a host outside.
        OutsideCluster = "outside-cluster",
        /// Passthrough to an address in `mesh.cidrs`.
        MeshDestination = "mesh-destination",
        /// Passthrough to an address outside `mesh.cidrs`.
        OutsideDestination = "outside-destination",
        /// Passthrough to an address that is not known.
        NoDestination = "no-destination",
        /// The authority is a host inside.
        MeshHost = "mesh-host",
        /// The authority is a host outside.
        OutsideHost = "outside-host",
        /// The server name of a TLS connection is a host inside.
        MeshSni = "mesh-sni",
        /// The server name of a TLS connection is a host outside.
        OutsideSni = "outside-sni",
        /// The authority is not a host, and nothing else told.
        InvalidHost = "invalid-host",
    }
}

impl DirectionEvidence {
    /// One sentence for a person who asks why.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::MeshIdentity => "the peer's certificate names an identity of the mesh",
            Self::MeshSource => "the source address is inside mesh.cidrs",
            Self::OutsideSource => "the source address is outside mesh.cidrs",
            Self::ForwardedSource => {
                "without mutual TLS the source address may come from the client's own x-forwarded-for"
            }
            Self::NoSource => "there is no source address",
            Self::GatewayTag => "an ingress gateway that runs the filter said so",
            Self::IngressGateway => "the peer is an ingress gateway",
            Self::MeshCluster => "the route's cluster is a service of the mesh",
            Self::OutsideCluster => "the route's cluster is a host outside the mesh",
            Self::MeshDestination => "the destination address is inside mesh.cidrs",
            Self::OutsideDestination => "the destination address is outside mesh.cidrs",
            Self::NoDestination => "the destination address is not known",
            Self::MeshHost => "the requested host is inside the mesh",
            Self::OutsideHost => "the requested host is outside the mesh",
            Self::MeshSni => "the server name (SNI) is a host inside the mesh",
            Self::OutsideSni => "the server name (SNI) is a host outside the mesh",
            Self::InvalidHost => "the requested host is invalid",
        }
    }
}

words! {
    /// Whose workload a request serves.
    ComponentType {
        /// A component of the platform: `components.system` of the policy.
        System = "system",
        /// Everything else.
        Application = "application",
    }
}

words! {
    /// What a rule, a section's default or a decision says.
    Action {
        /// The request goes on.
        Allow = "allow",
        /// The request is refused.
        Deny = "deny",
    }
}

words! {
    /// Whether a section refuses, or only counts what it would have refused.
    Mode {
        /// Decisions are carried out.
        Enforce = "enforce",
        /// Nothing is refused; what would have been is counted.
        DryRun = "dryRun",
    }
}

words! {
    /// What happens when the SNI of a terminated TLS connection is not the requested host.
    SniMode {
        /// The request is refused with `sni.status`.
        Deny = "deny",
        /// The mismatch is counted only.
        DryRun = "dryRun",
        /// The SNI is not read.
        Ignore = "ignore",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_place_in_all() {
        for (index, evidence) in DirectionEvidence::ALL.iter().enumerate() {
            assert_eq!(evidence.index(), index, "{evidence}");
        }
    }
}
