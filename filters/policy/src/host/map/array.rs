//! A list of values of one size that grows, or is part of an image.

use std::ops::Deref;

/// The list.
#[derive(Debug, Clone)]
pub(super) enum Array<T: 'static> {
    /// One that grows.
    Owned(Vec<T>),
    /// One that stays as it is, in memory that always will.
    Image(&'static [T]),
}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self::Owned(Vec::new())
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(values) => values,
            Self::Image(values) => values,
        }
    }
}

impl<T> Array<T> {
    /// The list to change; `None` in an image.
    pub(super) fn owned(&mut self) -> Option<&mut Vec<T>> {
        match self {
            Self::Owned(values) => Some(values),
            Self::Image(_) => None,
        }
    }
}
