//! The little of protobuf's wire format that the filters write.

/// A field with a length.
pub(crate) fn field(message: &mut Vec<u8>, number: u8, value: &[u8]) {
    head(message, number, value.len());
    message.extend_from_slice(value);
}

/// What a field with a length takes as a whole. No field here is longer than a rule's name and a host:
/// two bytes hold its length.
pub(crate) const fn size(length: usize) -> usize {
    2 + (length >= 0x80) as usize + length
}

/// The key and the length of a field.
pub(crate) fn head(message: &mut Vec<u8>, number: u8, length: usize) {
    const DELIMITED: u8 = 2;
    message.push(number << 3 | DELIMITED);
    let [low, high] = (length as u16).to_le_bytes();
    if length < 0x80 {
        message.push(low);
    } else {
        message.extend_from_slice(&[low | 0x80, high << 1 | low >> 7]);
    }
}
