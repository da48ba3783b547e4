//! Tells the election's own files that they are compiled for their simulation: without the driver, which talks to a real
//! API server.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=simulation");
}
