//! The sidecars' filter, inbound and outbound.

meridian_plugin::module!(Inbound, Outbound);
