//! A host for tests: what a proxy would know is written into it, and what the filter did is read from
//! it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use meridian_metrics::Kind;

use crate::host::{Attributes, GrpcStatus, PluginHost, Refused, Stat, StreamHost};

/// The status with which a [`Fake`] refuses.
pub(crate) const STATUS: u32 = 10;

/// What the host knows and what was done to it.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) configuration: String,
    pub(crate) image: Option<&'static [u8]>,
    pub(crate) properties: BTreeMap<&'static str, Vec<u8>>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) filter_state: BTreeMap<String, Vec<u8>>,
    /// Each stat by its name, in the order of their definition.
    pub(crate) stats: Vec<(String, u64)>,
    pub(crate) declared: Vec<(String, String)>,
    pub(crate) seconds: u64,
    pub(crate) ticks: Option<u32>,
    pub(crate) is_lean: bool,
    /// The status and details of each local reply.
    pub(crate) replies: Vec<(u16, String, GrpcStatus)>,
    pub(crate) is_closed: bool,
    /// The method that the host refuses.
    pub(crate) refused: Option<&'static str>,
}

/// A [`World`] as a host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fake<'w>(pub(crate) &'w RefCell<World>);

impl World {
    /// The methods that can be refused.
    pub(crate) const REFUSABLE: [&'static str; 13] = [
        "define",
        "set",
        "declare_filter_state",
        "unix_seconds",
        "tick_every",
        "replace_request_header",
        "remove_request_header",
        "remove_request_trailer",
        "set_filter_state",
        "local_reply",
        "close_downstream",
        "increment",
        "observe",
    ];

    /// A request from outside for this authority, with the policy in `configuration`.
    pub(crate) fn request(policy: &str, authority: &str) -> Self {
        let mut world = Self {
            configuration: policy.to_owned(),
            headers: vec![(":authority".to_owned(), authority.to_owned())],
            ..Self::default()
        };
        world
            .text("source\0address", "203.0.113.7:4711")
            .text("destination\0address", "10.0.0.9:8080");
        world
    }

    pub(crate) fn text(&mut self, path: &'static str, value: &str) -> &mut Self {
        self.properties.insert(path, value.as_bytes().to_vec());
        self
    }

    pub(crate) fn number(&mut self, path: &'static str, value: i64) -> &mut Self {
        self.properties.insert(path, value.to_le_bytes().to_vec());
        self
    }

    /// The values of a request header.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter().filter(|(header, _)| header == name);
        headers.map(|(_, value)| value.as_str()).collect()
    }

    /// The stats of a metric that are not zero, without the metric's name.
    pub(crate) fn counted(&self, metric: &str) -> Vec<(String, u64)> {
        let stats = self.stats.iter().filter(|(_, value)| *value > 0);
        stats
            .filter_map(|(name, value)| Some((name.strip_suffix(metric)?.to_owned(), *value)))
            .collect()
    }
}

impl Fake<'_> {
    fn done(self, method: &'static str, act: impl FnOnce(&mut World)) -> Result<(), Refused> {
        let mut world = self.0.borrow_mut();
        assert!(World::REFUSABLE.contains(&method), "{method}");
        if world.refused == Some(method) {
            return Err(Refused(STATUS));
        }
        act(&mut world);
        Ok(())
    }

    fn stat(world: &mut World, stat: Stat) -> &mut u64 {
        &mut world.stats[usize::try_from(stat.0).unwrap()].1
    }
}

impl Attributes for Fake<'_> {
    fn property(self, path: &str) -> Option<Vec<u8>> {
        self.0.borrow().properties.get(path).cloned()
    }
}

impl PluginHost for Fake<'_> {
    fn configuration(self) -> Vec<u8> {
        self.0.borrow().configuration.clone().into_bytes()
    }

    fn policy_image(self) -> Option<&'static [u8]> {
        self.0.borrow().image
    }

    fn define(self, _: Kind, name: &str) -> Result<Stat, Refused> {
        let mut index = 0;
        self.done("define", |world| {
            let known = world.stats.iter().position(|(stat, _)| stat == name);
            index = known.unwrap_or(world.stats.len());
            if known.is_none() {
                world.stats.push((name.to_owned(), 0));
            }
        })?;
        Ok(Stat(u32::try_from(index).unwrap()))
    }

    fn set(self, gauge: Stat, value: u64) -> Result<(), Refused> {
        self.done("set", |world| *Self::stat(world, gauge) = value)
    }

    fn declare_filter_state(self, name: &str, type_url: &str) -> Result<(), Refused> {
        self.done("declare_filter_state", |world| {
            world.declared.push((name.to_owned(), type_url.to_owned()));
        })
    }

    fn unix_seconds(self) -> Result<u64, Refused> {
        self.done("unix_seconds", |_| ())?;
        Ok(self.0.borrow().seconds)
    }

    fn tick_every(self, milliseconds: u32) -> Result<(), Refused> {
        self.done("tick_every", |world| world.ticks = Some(milliseconds))
    }

    fn tells_ends(self) -> bool {
        !self.0.borrow().is_lean
    }
}

impl StreamHost for Fake<'_> {
    fn request_header(self, name: &str) -> Option<Vec<u8>> {
        let world = self.0.borrow();
        let value = world.values(name).first().copied()?;
        Some(value.as_bytes().to_vec())
    }

    fn replace_request_header(self, name: &str, value: &str) -> Result<(), Refused> {
        self.done("replace_request_header", |world| {
            world.headers.retain(|(header, _)| header != name);
            world.headers.push((name.to_owned(), value.to_owned()));
        })
    }

    fn remove_request_header(self, name: &str) -> Result<(), Refused> {
        self.done("remove_request_header", |world| {
            world.headers.retain(|(header, _)| header != name);
        })
    }

    fn remove_request_trailer(self, name: &str) -> Result<(), Refused> {
        self.done("remove_request_trailer", |world| {
            world.trailers.retain(|(trailer, _)| trailer != name);
        })
    }

    fn set_filter_state(self, name: &str, value: &[u8]) -> Result<(), Refused> {
        self.done("set_filter_state", |world| {
            world.filter_state.insert(name.to_owned(), value.to_vec());
        })
    }

    fn local_reply(
        self,
        status: u16,
        grpc_status: GrpcStatus,
        details: &str,
        _: &str,
    ) -> Result<(), Refused> {
        self.done("local_reply", |world| {
            world
                .replies
                .push((status, details.to_owned(), grpc_status));
        })
    }

    fn close_downstream(self) -> Result<(), Refused> {
        self.done("close_downstream", |world| world.is_closed = true)
    }

    fn increment(self, counter: Stat) -> Result<(), Refused> {
        self.done("increment", |world| *Self::stat(world, counter) += 1)
    }

    fn observe(self, histogram: Stat, value: u64) -> Result<(), Refused> {
        self.done("observe", |world| *Self::stat(world, histogram) += value)
    }
}
