//! The same structs as the maps' BTF describes them, with enums, so that `bpftool map dump` prints words.
//!
//! Nothing ever reads a value at these types: a map may hold any bit pattern, and an enum may not. They are named
//! only as the maps' type parameters; programs cast the pointer that a lookup gives to the integer struct.

use core::mem::offset_of;

/// [`crate::layout::role`] in words.
#[repr(u32)]
pub enum Role {
    /// [`crate::layout::role::OWNED`].
    Owned = crate::layout::role::OWNED,
    /// [`crate::layout::role::ELSEWHERE`].
    Elsewhere = crate::layout::role::ELSEWHERE,
}

/// [`crate::layout::elsewhere`] in words.
#[repr(u32)]
pub enum Elsewhere {
    /// [`crate::layout::elsewhere::PASSED`].
    Passed = crate::layout::elsewhere::PASSED,
    /// [`crate::layout::elsewhere::DROPPED`].
    Dropped = crate::layout::elsewhere::DROPPED,
}

/// [`crate::layout::VipEntry`].
#[repr(C)]
pub struct VipEntry {
    /// [`crate::layout::VipEntry::epoch`].
    pub epoch: u64,
    /// [`crate::layout::VipEntry::role`].
    pub role: Role,
    /// [`crate::layout::VipEntry::counter_slot`].
    pub counter_slot: u32,
}

/// [`crate::layout::Session`].
#[repr(C)]
pub struct Session {
    /// [`crate::layout::Session::deadline_boot_ns`].
    pub deadline_boot_ns: u64,
    /// [`crate::layout::Session::layout_version`].
    pub layout_version: u32,
    /// [`crate::layout::Session::elsewhere`].
    pub elsewhere: Elsewhere,
    /// [`crate::layout::Session::epoch`].
    pub epoch: u64,
    /// [`crate::layout::Session::uid`].
    pub uid: [u8; 16],
    /// [`crate::layout::Session::boot_id`].
    pub boot_id: [u8; 16],
}

/// Proves at compile time that a shown struct has the layout of its plain twin.
macro_rules! same_layout {
    ($name:ident { $($field:ident),+ }) => {
        const _: () = assert!(size_of::<$name>() == size_of::<crate::layout::$name>());
        const _: () = assert!(align_of::<$name>() == align_of::<crate::layout::$name>());
        $(const _: () = assert!(offset_of!($name, $field) == offset_of!(crate::layout::$name, $field));)+
    };
}

same_layout!(VipEntry { epoch, role, counter_slot });
same_layout!(Session { deadline_boot_ns, layout_version, elsewhere, epoch, uid, boot_id });
