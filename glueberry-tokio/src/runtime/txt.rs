//! Looking up TXT records, with hickory.

use std::io;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

/// Asks the name servers of a configuration, else those of the operating system, and blocks until they
/// answer. hickory needs a tokio runtime, which it has here for the time of the look-up, whatever the
/// node runs on.
pub(crate) fn blocking(name: &str, servers: Option<ResolverConfig>) -> io::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let builder = match servers {
            Some(servers) => {
                TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().map_err(io::Error::other)?,
        };
        let resolver = builder.build().map_err(io::Error::other)?;
        let found = resolver.txt_lookup(name).await.map_err(io::Error::other)?;
        let texts = found.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(text(&txt.txt_data)),
            _ => None,
        });
        Ok(texts.collect())
    })
}

/// A record is made of strings of at most 255 bytes, which are one text.
fn text(parts: &[Box<[u8]>]) -> String {
    String::from_utf8_lossy(&parts.concat()).into_owned()
}

#[cfg(test)]
pub(crate) mod tests;
