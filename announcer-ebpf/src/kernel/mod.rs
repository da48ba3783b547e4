//! Entry points, their frames and the maps.

pub(crate) mod log;
mod maps;
mod tcx;
mod xdp;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
