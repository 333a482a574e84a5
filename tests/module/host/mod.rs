//! A host for the shipped modules that counts: it calls them as Envoy does and answers the ABI's host
//! calls from what a test says.
//!
//! It is an interpreter, so that instructions can be counted: the same module and the same request
//! give the same number on every machine.

mod calls;
mod world;

use std::sync::LazyLock;

use meridian::lab::modules::{Module as BuiltModule, Modules};
use wasmi::{
    Caller, CompilationMode, Config, Engine, Instance, Linker, Memory, Module, Store, TypedFunc,
    Val, WasmParams, WasmResults,
};

pub use world::{Answers, Reply, World};

/// More than any test takes.
const FUEL: u64 = 1 << 60;

/// The context of the first plugin; all others come after it.
pub const ROOT: u32 = 1;

/// The modules, built once a run.
pub static MODULES: LazyLock<Modules> =
    LazyLock::new(|| meridian::lab::modules::build().expect("the modules are built"));

/// What a request or connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    Continue,
    /// It does not.
    Pause,
}

/// What one request or connection caused.
#[derive(Debug)]
pub struct Seen {
    /// What the module said at the headers, or at the new connection.
    pub action: Action,
    /// The host calls in order, see [`World`].
    pub calls: Vec<String>,
    /// The callbacks in order: what crosses into the module, beside `malloc`.
    pub callbacks: Vec<&'static str>,
    /// The buffers that the host had the module allocate: each is a crossing more.
    pub buffers: usize,
    /// The bytes in those buffers.
    pub returned: usize,
    /// Instructions of WebAssembly.
    pub instructions: u64,
    /// What goes on: the headers and trailers as the module left them.
    pub sent: Answers,
    /// The local reply.
    pub reply: Option<Reply>,
    /// True if the module closed the connection.
    pub closed: bool,
}

/// A VM with one plugin.
pub struct Host {
    store: Store<World>,
    instance: Instance,
    last_context: u32,
}

/// The module of a vantage point.
pub fn module(root_id: &str, is_lean: bool) -> &'static BuiltModule {
    let [ingress, egress, sidecar] = match is_lean {
        true => &MODULES.lean,
        false => &MODULES.built,
    };
    match root_id {
        "ingress" | "ingress.tcp" => ingress,
        "egress" | "egress.tcp" => egress,
        _ => sidecar,
    }
}

/// True if the harness takes the lean module: nothing is measured when a stream ends.
pub fn is_lean(root_id: &str, policy: &str) -> bool {
    let policy = meridian_policy::Policy::from_json(policy);
    root_id.ends_with(".tcp") || policy.is_ok_and(|policy| !policy.metrics.any())
}

impl Host {
    /// Starts a VM with the module that can do all; `root_id` says which. [`Host::configure`] comes
    /// next.
    pub fn start(root_id: &str) -> Self {
        Self::start_module(root_id, false)
    }

    fn start_module(root_id: &str, is_lean: bool) -> Self {
        let wasm = std::fs::read(&module(root_id, is_lean).path).unwrap();
        Self::start_wasm(root_id, &wasm)
    }

    /// Starts a VM with the module that `wasm` is.
    pub fn start_wasm(root_id: &str, wasm: &[u8]) -> Self {
        Self::load(root_id, wasm, false).unwrap()
    }

    /// The same; a lenient host answers 0 to calls that it does not know.
    ///
    /// # Errors
    /// If the host has not all that the module imports.
    pub fn load(root_id: &str, wasm: &[u8], is_lenient: bool) -> Result<Self, wasmi::Error> {
        let mut config = Config::default();
        // Otherwise a function's first call pays for its translation.
        config
            .consume_fuel(true)
            .compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, wasm).unwrap();
        let mut linker = Linker::new(&engine);
        if is_lenient {
            linker.allow_shadowing(true);
            for import in module.imports() {
                if let Some(signature) = import.ty().func() {
                    // What results hold beforehand is 0.
                    let answer = |_: Caller<'_, World>, _: &[Val], _: &mut [Val]| Ok(());
                    linker.func_new(import.module(), import.name(), signature.clone(), answer)?;
                }
            }
        }
        calls::provide(&mut linker);
        let mut world = World::default();
        world.answers.property("plugin_root_id", root_id);
        let mut store = Store::new(&engine, world);
        store.set_fuel(FUEL).unwrap();
        store.limiter(|world| &mut world.limits);
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let memory = instance.get_memory(&store, "memory").unwrap();
        let malloc = instance.get_typed_func(&store, "malloc").unwrap();
        store.data_mut().connect(memory, malloc);
        let mut host = Self {
            store,
            instance,
            last_context: ROOT,
        };
        host.call::<_, ()>("_initialize", ());
        host.create(ROOT, 0);
        Ok(host)
    }

    /// A VM with this policy in force.
    pub fn with_policy(root_id: &str, policy: &str) -> Self {
        let mut host = Self::start_module(root_id, is_lean(root_id, policy));
        assert!(host.configure(policy), "{:?}", host.world().calls);
        host
    }

    /// A VM with the lean module.
    pub fn start_lean(root_id: &str) -> Self {
        Self::start_module(root_id, true)
    }

    /// Another plugin in the same VM, as for a policy that is exchanged; its root context.
    pub fn add_plugin(&mut self, root_id: &str, policy: &str) -> u32 {
        self.last_context += 1;
        let root = self.last_context;
        self.create(root, 0);
        self.world_mut().own.property("plugin_root_id", root_id);
        self.world_mut().answers.property("plugin_root_id", root_id);
        assert!(self.configure_at(root, policy), "{:?}", self.world().calls);
        root
    }

    /// Hands the policy over; true if the module took it.
    pub fn configure(&mut self, policy: &str) -> bool {
        self.configure_at(ROOT, policy)
    }

    fn configure_at(&mut self, root: u32, policy: &str) -> bool {
        let world = self.world_mut();
        world.configuration = policy.as_bytes().to_vec();
        world.forget();
        let size = u32::try_from(policy.len()).unwrap();
        self.call::<_, u32>("proxy_on_configure", (root, size)) == 1
    }

    /// What the module sees, and what it did.
    pub fn world(&self) -> &World {
        self.store.data()
    }

    /// What the module sees, and what it did.
    pub fn world_mut(&mut self) -> &mut World {
        self.store.data_mut()
    }

    /// The pages of the module's memory, of 64 KiB.
    pub fn pages(&self) -> u64 {
        self.memory().size(&self.store)
    }

    /// Lets the module's memory grow no further.
    pub fn limit_memory(&mut self) {
        let bytes = usize::try_from(self.pages()).unwrap() << 16;
        let limits = wasmi::StoreLimitsBuilder::new().memory_size(bytes);
        self.world_mut().limits = limits.build();
    }

    /// Asks the module for a buffer, as the host does for what it answers; `None` if it traps.
    pub fn allocate(&mut self, bytes: u32) -> Option<u32> {
        let malloc: TypedFunc<u32, u32> =
            self.instance.get_typed_func(&self.store, "malloc").unwrap();
        self.store.set_fuel(FUEL).unwrap();
        malloc.call(&mut self.store, bytes).ok()
    }

    /// Sends a request through the filter, from its headers to its end.
    pub fn request(&mut self, answers: &Answers) -> Seen {
        self.stream(answers, "proxy_on_request_headers", |host, context| {
            let headers = u32::try_from(host.world().answers.headers.len()).unwrap();
            let action = host.call("proxy_on_request_headers", (context, headers, 1u32));
            let trailers = u32::try_from(host.world().answers.trailers.len()).unwrap();
            if trailers > 0 && action == 0 {
                host.callback("proxy_on_request_trailers");
                let after: u32 = host.call("proxy_on_request_trailers", (context, trailers));
                return after;
            }
            action
        })
    }

    /// Opens a connection through the network filter, and closes it.
    pub fn connection(&mut self, answers: &Answers) -> Seen {
        self.stream(answers, "proxy_on_new_connection", |host, context| {
            host.call("proxy_on_new_connection", context)
        })
    }

    fn stream(
        &mut self,
        answers: &Answers,
        first: &'static str,
        decide: impl FnOnce(&mut Self, u32) -> u32,
    ) -> Seen {
        self.world_mut().stream(answers);
        let context = self.open(ROOT);
        self.callback(first);
        let action = decide(self, context);
        self.close(context);
        let world = self.world_mut();
        Seen {
            action: match action {
                0 => Action::Continue,
                _ => Action::Pause,
            },
            calls: world.calls.clone(),
            callbacks: world.callbacks.clone(),
            buffers: world.buffers,
            returned: world.returned,
            instructions: world.instructions,
            sent: std::mem::replace(&mut world.answers, world.own.clone()),
            reply: world.reply.take(),
            closed: world.closed,
        }
    }

    /// Begins a request or connection of a plugin; its context.
    pub fn open(&mut self, root: u32) -> u32 {
        self.last_context += 1;
        self.callback("proxy_on_context_create");
        self.create(self.last_context, root);
        self.last_context
    }

    /// Tells the module of a request's headers, in a context that is open.
    pub fn headers(&mut self, context: u32, answers: &Answers) -> Action {
        self.world_mut().stream(answers);
        match self.call("proxy_on_request_headers", (context, 1u32, 1u32)) {
            0u32 => Action::Continue,
            _ => Action::Pause,
        }
    }

    /// Tells the module of a new connection, in a context that is open.
    pub fn connected(&mut self, context: u32, answers: &Answers) -> Action {
        self.world_mut().stream(answers);
        match self.call("proxy_on_new_connection", context) {
            0u32 => Action::Continue,
            _ => Action::Pause,
        }
    }

    /// Ends a request or connection, or a plugin.
    pub fn close(&mut self, context: u32) {
        // Envoy calls both at a stream's end, and neither where the module does not export it.
        for callback in ["proxy_on_done", "proxy_on_log", "proxy_on_delete"] {
            if self.instance.get_func(&self.store, callback).is_some() {
                self.callback(callback);
                self.call::<_, ()>(callback, context);
            }
        }
    }

    /// True if the module has a request or connection begin, and does not trap.
    pub fn begins(&mut self) -> bool {
        let begin: TypedFunc<(u32, u32), ()> = self
            .instance
            .get_typed_func(&self.store, "proxy_on_context_create")
            .unwrap();
        self.store.set_fuel(FUEL).unwrap();
        begin.call(&mut self.store, (ROOT + 1, ROOT)).is_ok()
    }

    fn create(&mut self, context: u32, root: u32) {
        self.call::<_, ()>("proxy_on_context_create", (context, root));
    }

    /// Calls the plugin's tick, if it asked for one.
    pub fn tick(&mut self) {
        assert!(self.world().tick.is_some(), "no tick was asked for");
        self.world_mut().forget();
        self.call::<_, ()>("proxy_on_tick", ROOT);
    }

    fn memory(&self) -> Memory {
        self.instance.get_memory(&self.store, "memory").unwrap()
    }

    fn callback(&mut self, name: &'static str) {
        self.world_mut().callbacks.push(name);
    }

    /// Calls a function of the module, which must not trap.
    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> R {
        let function: TypedFunc<P, R> = self.instance.get_typed_func(&self.store, name).unwrap();
        self.store.set_fuel(FUEL).unwrap();
        let result = function
            .call(&mut self.store, parameters)
            .unwrap_or_else(|trap| panic!("{name}: {trap}; {:?}", self.world().calls));
        let used = FUEL - self.store.get_fuel().unwrap();
        self.world_mut().instructions += used;
        result
    }
}
