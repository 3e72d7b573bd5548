//! Glueberry inside any libp2p swarm.
//!
//! A place that is kept: there is nothing here yet. A libp2p node with QUIC can already meet a
//! `glueberry-tokio` node, which speaks libp2p's TLS identity and multistream-select.
