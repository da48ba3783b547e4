//! `aya::Pod` for what user space reads and writes.

use super::{Conflict, Counters, LinkEntry, LinkKey, MacKey, Session, Vip4Key, Vip6Key, VipEntry};

macro_rules! pod {
    ($($name:ty),+ $(,)?) => {
        // SAFETY: `repr(C)`, made of integers and byte arrays only, and without padding: the size assertions beside
        // each struct equal the sum of its fields. So every bit pattern is a value, and every byte is initialised.
        $(unsafe impl aya::Pod for $name {})+
    };
}

pod!(Conflict, Counters, LinkEntry, LinkKey, MacKey, Session, Vip4Key, Vip6Key, VipEntry);
