//! Addresses as text, as their `Display` has them.
//!
//! The standard library's costs a module three kilobytes, most of it for padding.

use std::net::IpAddr;

/// An address as text.
pub(crate) fn text(address: IpAddr) -> String {
    let mut text = Vec::new();
    push(&mut text, address);
    String::from_utf8(text).unwrap_or_default()
}

/// Appends an address, IPv6 in the form of RFC 5952.
pub(crate) fn push(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push(b'.');
                }
                push_number(text, octet.into(), 10);
            }
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            let zeros = longest_zeros(segments);
            let mut skipped = 0;
            for (index, segment) in segments.into_iter().enumerate() {
                if skipped > 0 {
                    skipped -= 1;
                    continue;
                }
                match zeros {
                    Some((start, length)) if start == index => {
                        text.extend_from_slice(b"::");
                        skipped = length - 1;
                        continue;
                    }
                    // `::` has its colons already.
                    Some((start, length)) if index == start + length => {}
                    _ if index == 0 => {}
                    _ => text.push(b':'),
                }
                push_number(text, segment, 16);
            }
        }
    }
}

/// The first of the longest runs of two or more zeros: where it starts, and its length.
fn longest_zeros(segments: [u16; 8]) -> Option<(usize, usize)> {
    let mut longest = (0, 1);
    let mut run = 0;
    for (index, segment) in segments.into_iter().enumerate() {
        run = if segment == 0 { run + 1 } else { 0 };
        if run > longest.1 {
            longest = (index + 1 - run, run);
        }
    }
    (longest.1 > 1).then_some(longest)
}

fn push_number(text: &mut Vec<u8>, number: u16, radix: u16) {
    let rest = number / radix;
    if rest > 0 {
        push_number(text, rest, radix);
    }
    text.push(match (number % radix) as u8 {
        digit @ 0..=9 => b'0' + digit,
        digit => b'a' + digit - 10,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_the_standard_library_has_them() {
        let mut addresses: Vec<IpAddr> = ["0.0.0.0", "127.0.0.1", "255.10.100.9"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        // Every pattern of zeros.
        addresses.extend((0..=255u8).map(|pattern| {
            let segments: [u16; 8] = std::array::from_fn(|bit| {
                if pattern >> bit & 1 == 1 {
                    0x10f0 >> bit
                } else {
                    0
                }
            });
            IpAddr::from(segments)
        }));
        for address in addresses {
            // That one has a form of its own, and no canonical host is one.
            if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
                continue;
            }
            let mut text = Vec::new();
            push(&mut text, address);
            assert_eq!(String::from_utf8(text).unwrap(), address.to_string());
        }
    }
}
