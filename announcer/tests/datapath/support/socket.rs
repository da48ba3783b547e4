//! A packet socket on one interface: every frame out, every frame in.

use std::{io, mem, os::fd::AsRawFd, time::Duration};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Sends and receives whole frames on one interface.
pub struct Wire {
    socket: Socket,
}

impl Wire {
    /// On the interface with that index, in this thread's namespace.
    pub fn open(ifindex: u32) -> Self {
        Self::of_protocol(ifindex, libc::ETH_P_ALL as u16)
    }

    /// Frames of one EtherType that come in, and room for a lot of them.
    pub fn listening(ifindex: u32, ethertype: u16) -> Self {
        const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
        let wire = Self::of_protocol(ifindex, ethertype);
        for (level, option, value) in [
            (libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20),
        ] {
            let value: libc::c_int = value;
            // SAFETY: an option of one integer, which outlives the call.
            let done = unsafe {
                libc::setsockopt(
                    wire.socket.as_raw_fd(),
                    level,
                    option,
                    (&raw const value).cast(),
                    mem::size_of_val(&value) as u32,
                )
            };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
        }
        wire
    }

    fn of_protocol(ifindex: u32, ethertype: u16) -> Self {
        let all = u16::to_be(ethertype);
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(all))))
            .expect("a packet socket");
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: `sockaddr_ll` is one of the forms that the storage is made for, and all zeroes is a value of it.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = ifindex as i32;
        // SAFETY: initialised above, as long as it says.
        let address = unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as u32) };
        socket.bind(&address).expect("bound to the interface");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        socket.set_recv_buffer_size(8 << 20).expect("a buffer");
        Self { socket }
    }

    pub fn send(&self, frame: &[u8]) {
        self.socket.send(frame).expect("sent");
    }

    /// The next frame that `wanted` likes; `None` after half a second without any frame.
    pub fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        loop {
            match self.next()? {
                frame if wanted(&frame) => return Some(frame),
                _ => {}
            }
        }
    }

    /// The next frame; `None` after half a second.
    pub fn next(&self) -> Option<Vec<u8>> {
        let mut buffer = [mem::MaybeUninit::uninit(); 2048];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                // SAFETY: the kernel has written `length` bytes.
                Some(buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }
}
