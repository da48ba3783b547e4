//! Sessions and claims: a pure state machine (events in, actions out), and the thin driver that performs the actions.
