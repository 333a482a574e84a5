//! IPv4 addresses in the spellings that resolvers take.

use std::net::Ipv4Addr;

/// True if a resolver would take `label`, the last of a host, for a part of an IPv4 address.
pub(super) fn is_number(label: &str) -> bool {
    match strip_hex(label) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn strip_hex(part: &str) -> Option<&str> {
    part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"))
}

/// An IPv4 address in any spelling of `inet_aton`: one to four parts, each decimal, octal or
/// hexadecimal; the last fills all the bytes that are left.
pub(super) fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = [0u32; 4];
    let mut count = 0;
    for text in text.split('.') {
        *parts.get_mut(count)? = parse_ipv4_part(text)?;
        count += 1;
    }
    let last = *parts.get(count.checked_sub(1)?)?;
    let mut address = last;
    for (index, part) in parts.iter().take(count - 1).enumerate() {
        let octet = u8::try_from(*part).ok()?;
        address |= u32::from(octet) << (24 - 8 * index);
    }
    // The last part may not reach into the bytes of the parts before it.
    let free_bits = 32 - 8 * (count - 1);
    (u64::from(last) >> free_bits == 0).then(|| Ipv4Addr::from(address))
}

fn parse_ipv4_part(text: &str) -> Option<u32> {
    let (digits, radix) = match strip_hex(text) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}
