//! Frames that userspace sends: gratuitous ARP, unsolicited NA, probes; links and their changes (netlink).
