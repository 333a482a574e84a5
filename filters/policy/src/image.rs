//! The bytes of an image: a policy as it lies in a module, used where it is.
//!
//! Numbers are words of 32 bits, little endian, at any address. What does not fit is no image.

/// An image, from its beginning on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader(pub(crate) &'static [u8]);

impl Reader {
    /// The next number.
    pub(crate) fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }

    /// As many bytes as the next number says.
    pub(crate) fn bytes(&mut self) -> Option<&'static [u8]> {
        self.values(1)
    }

    /// As many values of `N` bytes as the next number says.
    pub(crate) fn list<const N: usize>(&mut self) -> Option<&'static [[u8; N]]> {
        Some(self.values(N)?.as_chunks().0)
    }

    #[inline(never)]
    fn values(&mut self, size: usize) -> Option<&'static [u8]> {
        let length = (self.word()? as usize).checked_mul(size)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// An image that is being written.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// Writes a number.
    pub(crate) fn word(&mut self, word: u32) {
        self.0.extend_from_slice(&word.to_le_bytes());
    }

    /// Writes bytes behind their number; `None` if there are too many.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.list(bytes.as_chunks::<1>().0)
    }

    /// Writes values of `N` bytes behind their number; `None` if there are too many.
    pub(crate) fn list<const N: usize>(&mut self, values: &[[u8; N]]) -> Option<()> {
        self.word(u32::try_from(values.len()).ok()?);
        self.0.extend_from_slice(values.as_flattened());
        Some(())
    }
}
