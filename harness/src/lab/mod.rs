//! The laboratory: Envoys with the filters under test, on one machine.
//!
//! Configurations, modules, processes, the local topology and scrapes of its metrics. Knows nothing
//! of verbs.

pub mod carried;
pub mod child;
pub mod compose;
pub mod config;
pub mod envoy;
pub mod live;
pub mod mesh;
pub mod modules;
pub mod namespaces;
pub mod nginx;
pub mod paths;
pub mod programs;
pub mod prometheus;
pub mod topology;
