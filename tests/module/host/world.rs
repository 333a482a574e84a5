//! What a module sees of the host, and what it did there.

use std::collections::BTreeMap;

use wasmi::{Memory, TypedFunc};

/// What the host answers about the current request or connection.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// The headers of the request; the module changes them.
    pub headers: Vec<(String, String)>,
    /// The trailers of the request; the module changes them.
    pub trailers: Vec<(String, String)>,
    properties: BTreeMap<String, Vec<u8>>,
}

impl Answers {
    /// A request with this authority.
    pub fn request(authority: &str) -> Self {
        let mut answers = Self::default();
        answers.header(":authority", authority);
        answers
    }

    /// Adds a header.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a trailer.
    pub fn trailer(&mut self, name: &str, value: &str) -> &mut Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a property, its path written with dots.
    pub fn property(&mut self, path: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.properties
            .insert(path.to_owned(), value.as_ref().to_vec());
        self
    }

    /// Sets a property that is a number.
    pub fn number(&mut self, path: &str, value: i64) -> &mut Self {
        self.property(path, value.to_le_bytes())
    }

    /// The values of a header.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter();
        headers
            .filter(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A property; `request.headers.NAME` has all values of the header, as in Envoy.
    pub(super) fn look_up(&self, path: &str) -> Option<Vec<u8>> {
        if let Some(name) = path.strip_prefix("request.headers.") {
            let values = self.values(name);
            return (!values.is_empty()).then(|| values.join(",").into_bytes());
        }
        self.properties.get(path).cloned()
    }

    fn and(&self, more: &Self) -> Self {
        let mut all = self.clone();
        all.headers.extend(more.headers.iter().cloned());
        all.trailers.extend(more.trailers.iter().cloned());
        all.properties.extend(more.properties.clone());
        all
    }
}

/// A local reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u32,
    pub details: String,
    pub body: String,
}

/// A metric of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its name in Envoy: labels first.
    pub name: String,
    /// The sum of a counter, else the last value.
    pub value: u64,
}

/// The host.
#[derive(Default)]
pub struct World {
    /// What it answers.
    pub answers: Answers,
    /// What it answers when no request is there.
    pub own: Answers,
    /// The plugin's configuration.
    pub configuration: Vec<u8>,
    /// The time, in seconds since the Unix epoch.
    pub seconds: u64,
    /// The host call that it does not carry out: `proxy_…`. It answers `InternalFailure`.
    pub refused: Option<&'static str>,
    /// The host calls since the last request began, each as `verb what`.
    pub calls: Vec<String>,
    pub(super) callbacks: Vec<&'static str>,
    pub(super) buffers: usize,
    pub(super) returned: usize,
    pub instructions: u64,
    pub reply: Option<Reply>,
    pub closed: bool,
    /// What the module's memory may grow to.
    pub(super) limits: wasmi::StoreLimits,
    /// The period that ticks were asked for in, in milliseconds.
    pub tick: Option<u32>,
    /// The filter state that the current request set.
    pub state: BTreeMap<String, Vec<u8>>,
    /// The metrics, by their identifiers.
    pub stats: Vec<Stat>,
    guest: Option<(Memory, TypedFunc<u32, u32>)>,
}

impl World {
    pub(super) fn connect(&mut self, memory: Memory, malloc: TypedFunc<u32, u32>) {
        self.guest = Some((memory, malloc));
        self.own = self.answers.clone();
    }

    pub(super) fn guest(&self) -> (Memory, TypedFunc<u32, u32>) {
        self.guest.expect("the module was instantiated")
    }

    /// Begins a request or connection.
    pub(super) fn stream(&mut self, answers: &Answers) {
        self.forget();
        self.answers = self.own.and(answers);
        self.state.clear();
    }

    /// Begins to count afresh.
    pub(super) fn forget(&mut self) {
        self.calls.clear();
        self.callbacks.clear();
        self.buffers = 0;
        self.returned = 0;
        self.instructions = 0;
        self.reply = None;
        self.closed = false;
    }

    /// The value of a metric: the sum over the series whose names hold all of `parts`.
    pub fn total(&self, parts: &[&str]) -> u64 {
        let stats = self.stats.iter();
        stats
            .filter(|stat| parts.iter().all(|part| stat.name.contains(part)))
            .map(|stat| stat.value)
            .sum()
    }
}
