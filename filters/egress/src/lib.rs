//! The egress gateway's filter.

meridian_plugin::module!(Egress);
