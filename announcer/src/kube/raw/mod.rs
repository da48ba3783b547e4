//! What the API server sends, object by object, before anything of it is believed.
//!
//! A list is taken apart while it arrives and a watch line by line; each object is decoded by itself, and only the
//! fields that are used. So what one object holds never decides whether another one is seen. [`Collection`] is the rim
//! that talks to the API server; the rest is pure.

mod collection;
mod metadata;
mod object;
mod splitter;
mod watching;

pub(crate) use collection::{Collection, End, Page, is_garbled};
pub(crate) use metadata::{Metadata, Text, null_is_default};
pub(crate) use object::RawObject;
pub(crate) use watching::{Line, Lines};
