//! The ingress gateway's filter.

meridian_plugin::module!(Ingress);
