//! The host calls of the proxy-wasm ABI 0.2.1 that the modules import.

use wasmi::{Caller, Error, Linker};

use super::world::{Reply, Stat, World};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const INTERNAL_FAILURE: u32 = 10;

/// `MapType` of the ABI.
const TRAILERS: u32 = 1;

type Status = Result<u32, Error>;

/// The bytes that the module points at.
fn bytes(caller: &Caller<'_, World>, at: u32, size: u32) -> Vec<u8> {
    let (memory, _) = caller.data().guest();
    let mut bytes = vec![0; size as usize];
    memory.read(caller, at as usize, &mut bytes).unwrap();
    bytes
}

fn text(caller: &Caller<'_, World>, at: u32, size: u32) -> String {
    String::from_utf8(bytes(caller, at, size)).unwrap()
}

fn write(caller: &mut Caller<'_, World>, at: u32, bytes: &[u8]) {
    let (memory, _) = caller.data().guest();
    memory.write(caller, at as usize, bytes).unwrap();
}

/// Notes a call; false if the host does not carry it out.
fn note(caller: &mut Caller<'_, World>, name: &str, call: String) -> bool {
    let world = caller.data_mut();
    world.calls.push(call);
    world.refused != Some(name)
}

/// Hands a buffer over, which the module allocates.
fn give(
    caller: &mut Caller<'_, World>,
    value: Option<Vec<u8>>,
    return_data: u32,
    return_size: u32,
) -> Status {
    let Some(value) = value else {
        return Ok(NOT_FOUND);
    };
    let size = u32::try_from(value.len()).unwrap();
    let mut at = 0;
    // As Envoy does it, an empty value has no buffer.
    if size > 0 {
        let (_, malloc) = caller.data().guest();
        at = malloc.call(&mut *caller, size)?;
        write(caller, at, &value);
        let world = caller.data_mut();
        world.buffers += 1;
        world.returned += value.len();
    }
    write(caller, return_data, &at.to_le_bytes());
    write(caller, return_size, &size.to_le_bytes());
    Ok(OK)
}

/// Defines every call in `env`.
pub(super) fn provide(linker: &mut Linker<World>) {
    reading(linker);
    writing(linker);
    counting(linker);
    asking(linker);
}

/// Calls that return what the request or the plugin has.
fn reading(linker: &mut Linker<World>) {
    let name = "proxy_get_header_map_value";
    let value = move |mut caller: Caller<'_, World>,
                      map: u32,
                      key: u32,
                      key_size: u32,
                      data: u32,
                      size: u32|
          -> Status {
        assert_eq!(map, 0, "only request headers are read");
        let key = text(&caller, key, key_size);
        if !note(&mut caller, name, format!("header {key}")) {
            return Ok(INTERNAL_FAILURE);
        }
        let values = caller.data().answers.values(&key);
        let value = values.first().map(|value| value.as_bytes().to_vec());
        give(&mut caller, value, data, size)
    };
    linker.func_wrap("env", name, value).unwrap();

    let name = "proxy_get_property";
    let property = move |mut caller: Caller<'_, World>,
                         path: u32,
                         path_size: u32,
                         data: u32,
                         size: u32|
          -> Status {
        let path = text(&caller, path, path_size).replace('\0', ".");
        if !note(&mut caller, name, format!("property {path}")) {
            return Ok(INTERNAL_FAILURE);
        }
        let value = caller.data().answers.look_up(&path);
        give(&mut caller, value, data, size)
    };
    linker.func_wrap("env", name, property).unwrap();

    let name = "proxy_get_buffer_bytes";
    let buffer = move |mut caller: Caller<'_, World>,
                       _: u32,
                       _: u32,
                       _: u32,
                       data: u32,
                       size: u32|
          -> Status {
        if !note(&mut caller, name, "configuration".to_owned()) {
            return Ok(INTERNAL_FAILURE);
        }
        let configuration = caller.data().configuration.clone();
        give(&mut caller, Some(configuration), data, size)
    };
    linker.func_wrap("env", name, buffer).unwrap();

    let name = "proxy_get_current_time_nanoseconds";
    let time = move |mut caller: Caller<'_, World>, return_time: u32| -> u32 {
        if !note(&mut caller, name, "clock".to_owned()) {
            return INTERNAL_FAILURE;
        }
        let nanoseconds = caller.data().seconds * 1_000_000_000;
        write(&mut caller, return_time, &nanoseconds.to_le_bytes());
        OK
    };
    linker.func_wrap("env", name, time).unwrap();
}

/// Calls that change the request, or say something of it.
fn writing(linker: &mut Linker<World>) {
    let name = "proxy_replace_header_map_value";
    let replace = move |mut caller: Caller<'_, World>,
                        map: u32,
                        key: u32,
                        key_size: u32,
                        value: u32,
                        value_size: u32|
          -> u32 {
        assert_eq!(map, 0, "only request headers are replaced");
        let key = text(&caller, key, key_size);
        let value = text(&caller, value, value_size);
        if !note(&mut caller, name, format!("replace {key}: {value}")) {
            return INTERNAL_FAILURE;
        }
        let headers = &mut caller.data_mut().answers.headers;
        headers.retain(|(header, _)| *header != key);
        headers.push((key, value));
        OK
    };
    linker.func_wrap("env", name, replace).unwrap();

    let name = "proxy_remove_header_map_value";
    let remove = move |mut caller: Caller<'_, World>, map: u32, key: u32, key_size: u32| -> u32 {
        let key = text(&caller, key, key_size);
        let place = if map == TRAILERS { "trailer " } else { "" };
        if !note(&mut caller, name, format!("remove {place}{key}")) {
            return INTERNAL_FAILURE;
        }
        let answers = &mut caller.data_mut().answers;
        let fields = match map {
            TRAILERS => &mut answers.trailers,
            _ => &mut answers.headers,
        };
        fields.retain(|(field, _)| *field != key);
        OK
    };
    linker.func_wrap("env", name, remove).unwrap();

    let name = "proxy_set_property";
    let set = move |mut caller: Caller<'_, World>,
                    path: u32,
                    path_size: u32,
                    value: u32,
                    value_size: u32|
          -> u32 {
        let path = text(&caller, path, path_size);
        let value = bytes(&caller, value, value_size);
        if !note(&mut caller, name, format!("state {path}")) {
            return INTERNAL_FAILURE;
        }
        caller.data_mut().state.insert(path, value);
        OK
    };
    linker.func_wrap("env", name, set).unwrap();

    let name = "proxy_send_local_response";
    let reply = move |mut caller: Caller<'_, World>,
                      status: u32,
                      details: u32,
                      details_size: u32,
                      body: u32,
                      body_size: u32,
                      _: u32,
                      _: u32,
                      _: u32|
          -> u32 {
        let details = text(&caller, details, details_size);
        let body = text(&caller, body, body_size);
        if !note(&mut caller, name, format!("reply {status} {details}")) {
            return INTERNAL_FAILURE;
        }
        let world = caller.data_mut();
        assert_eq!(world.reply, None, "a second reply crashes Envoy");
        world.reply = Some(Reply {
            status,
            details,
            body,
        });
        OK
    };
    linker.func_wrap("env", name, reply).unwrap();

    let name = "proxy_close_stream";
    let close = move |mut caller: Caller<'_, World>, _: u32| -> u32 {
        if !note(&mut caller, name, "close".to_owned()) {
            return INTERNAL_FAILURE;
        }
        caller.data_mut().closed = true;
        OK
    };
    linker.func_wrap("env", name, close).unwrap();
}

/// The metric without its labels.
fn metric(stats: &[Stat], id: u32) -> String {
    let name = &stats[id as usize].name;
    name.rsplit(";.;").next().unwrap_or_default().to_owned()
}

/// Metrics.
fn counting(linker: &mut Linker<World>) {
    let name = "proxy_define_metric";
    let define =
        move |mut caller: Caller<'_, World>, _: u32, at: u32, size: u32, return_id: u32| -> u32 {
            let stat = text(&caller, at, size);
            if !note(&mut caller, name, format!("define {stat}")) {
                return INTERNAL_FAILURE;
            }
            let stats = &mut caller.data_mut().stats;
            let id = u32::try_from(stats.len()).unwrap();
            stats.push(Stat {
                name: stat,
                value: 0,
            });
            write(&mut caller, return_id, &id.to_le_bytes());
            OK
        };
    linker.func_wrap("env", name, define).unwrap();

    let name = "proxy_increment_metric";
    let increment = move |mut caller: Caller<'_, World>, id: u32, by: u64| -> u32 {
        let metric = metric(&caller.data().stats, id);
        if !note(&mut caller, name, format!("count {metric}")) {
            return INTERNAL_FAILURE;
        }
        caller.data_mut().stats[id as usize].value += by;
        OK
    };
    linker.func_wrap("env", name, increment).unwrap();

    let name = "proxy_record_metric";
    let record = move |mut caller: Caller<'_, World>, id: u32, value: u64| -> u32 {
        let metric = metric(&caller.data().stats, id);
        if !note(&mut caller, name, format!("record {metric}")) {
            return INTERNAL_FAILURE;
        }
        caller.data_mut().stats[id as usize].value = value;
        OK
    };
    linker.func_wrap("env", name, record).unwrap();
}

/// What else a module asks for.
fn asking(linker: &mut Linker<World>) {
    let name = "proxy_log";
    let log = move |mut caller: Caller<'_, World>, _: u32, at: u32, size: u32| -> u32 {
        let line = text(&caller, at, size);
        match note(&mut caller, name, format!("log {line}")) {
            true => OK,
            false => INTERNAL_FAILURE,
        }
    };
    linker.func_wrap("env", name, log).unwrap();

    let name = "proxy_set_tick_period_milliseconds";
    let tick = move |mut caller: Caller<'_, World>, period: u32| -> u32 {
        if !note(&mut caller, name, format!("tick {period}")) {
            return INTERNAL_FAILURE;
        }
        caller.data_mut().tick = Some(period);
        OK
    };
    linker.func_wrap("env", name, tick).unwrap();

    let name = "proxy_call_foreign_function";
    let foreign = move |mut caller: Caller<'_, World>,
                        at: u32,
                        size: u32,
                        _: u32,
                        _: u32,
                        _: u32,
                        _: u32|
          -> u32 {
        let function = text(&caller, at, size);
        match note(&mut caller, name, format!("function {function}")) {
            true => OK,
            false => INTERNAL_FAILURE,
        }
    };
    linker.func_wrap("env", name, foreign).unwrap();
}
