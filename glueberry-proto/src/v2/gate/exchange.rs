//! The key exchange (WIRE.md §6.3, §6.4, §7): what both sides offer, and what follows from it.

use super::{Agreed, Exchange, Gate, Offer, Reading, Step, Terms};
use crate::crypto::SharedKey;
use crate::prelude::*;
use crate::v2::Role;
use crate::v2::agreement::{Ephemeral, Parties, Transcript};
use crate::v2::frame::FrameType;
use crate::v2::kem::Share;
use crate::v2::kex::Kex;
use crate::v2::record::{Cipher, Opener, Sealer};
use crate::v2::suite::Suite;
use crate::v2::violation::Violation;

/// What a hybrid exchange adds.
struct Encapsulated {
    secret: SharedKey,
    /// The ciphertext's frame, from the type byte on.
    frame: Vec<u8>,
}

impl Gate {
    /// Takes the peer's key exchange, the frame from the type byte on.
    pub(super) fn exchange(&mut self, peers: &[u8]) -> Result<Step, Violation> {
        let kex = Kex::parse(&peers[1..], self.role.other())?;
        let ephemeral = self.ephemeral()?;
        ephemeral.check_peers(&kex.ephemeral, &self.identity)?;
        let suite = Suite::choose(&self.suites, &kex.suites).ok_or(Violation::NoCommonSuite)?;
        // The mask that this side has offered is in its frame.
        let own_bindings = self.own_kex.get(2).copied().unwrap_or(0);
        let binding = self.binding.choose(own_bindings, kex.bindings)?;
        let (peers_ephemeral, peers_kex) = (kex.ephemeral, peers.to_vec());
        let offer = Offer { suite, binding, peers_ephemeral, peers_kex };
        let encapsulated = match (suite.is_post_quantum(), self.role) {
            (false, _) => None,
            (true, Role::Initiator) => {
                let (ciphertext, secret) =
                    share(ephemeral)?.encapsulate(&kex.kem_key.unwrap_or_default())?;
                let mut frame = vec![FrameType::KemCiphertext.code()];
                frame.extend_from_slice(&ciphertext);
                Some(Encapsulated { secret, frame })
            }
            (true, Role::Responder) => return Ok(self.await_ciphertext(offer)),
        };
        self.agree(&offer, encapsulated)
    }

    /// True if this side's ciphertext was not written.
    pub(crate) fn has_ciphertext(&self) -> bool {
        matches!(&self.exchange, Exchange::Agreed(agreed) if agreed.ciphertext.is_some())
    }

    /// True if the next step is the peer's ciphertext.
    pub(super) const fn needs_ciphertext(&self) -> bool {
        matches!(self.exchange, Exchange::Waiting { offer: Some(_), .. })
    }

    fn await_ciphertext(&mut self, awaited: Offer) -> Step {
        self.reading = Reading::Clear;
        if let Exchange::Waiting { offer, .. } = &mut self.exchange {
            *offer = Some(Box::new(awaited));
        }
        Step::Read
    }

    /// Takes I's ciphertext, the frame from the type byte on.
    pub(super) fn decapsulate(&mut self, frame: &[u8]) -> Result<Step, Violation> {
        let ephemeral = self.ephemeral()?;
        let secret = share(ephemeral)?.decapsulate(&frame[1..])?;
        let Exchange::Waiting { offer, .. } = &mut self.exchange else {
            return Err(Violation::UnexpectedFrame);
        };
        let offer = offer.take().ok_or(Violation::UnexpectedFrame)?;
        self.agree(&offer, Some(Encapsulated { secret, frame: frame.to_vec() }))
    }

    fn ephemeral(&self) -> Result<&Ephemeral, Violation> {
        match &self.exchange {
            Exchange::Waiting { ephemeral, .. } => Ok(ephemeral),
            Exchange::Agreed(_) => Err(Violation::UnexpectedFrame),
        }
    }

    /// Derives what follows from both sides' parts. The ephemeral keys are wiped by this.
    fn agree(
        &mut self,
        offer: &Offer,
        encapsulated: Option<Encapsulated>,
    ) -> Result<Step, Violation> {
        let (suite, binding) = (offer.suite, offer.binding);
        let frame: &[u8] = encapsulated.as_ref().map_or(&[], |it| &it.frame);
        let transcript = Transcript {
            suite,
            kex: self.role.ordered(&self.own_kex, &offer.peers_kex),
            kem_ciphertext: frame,
            identities: self.role.ordered(self.identity.public_key(), self.peer),
            binding,
            application: &self.application,
        };
        let th = transcript.hash();
        let ephemeral = self.ephemeral()?;
        let secret = encapsulated.as_ref().map(|it| &it.secret);
        let parties = Parties { role: self.role, identity: &self.identity, peer: &self.peer };
        let master = ephemeral.agree(&parties, &offer.peers_ephemeral, secret, th)?;
        let cipher = Cipher { aead: self.aead.clone(), suite, padding: self.padding };
        let (own, peers) = (self.role, self.role.other());
        let is_ours = own == Role::Initiator;
        self.exchange = Exchange::Agreed(Box::new(Agreed {
            terms: Terms { suite, binding, session: master.session_id() },
            ciphertext: encapsulated.filter(|_| is_ours).map(|it| it.frame),
            own_confirm: Some(master.confirm_key(own)),
            peers_confirm: Some(master.confirm_key(peers)),
            exporter: master.exporter(),
            sealer: Sealer::new(cipher.clone(), &master.control(own)),
            opener: Opener::new(cipher.clone(), &master.control(peers)),
            th,
            cipher,
            master: Some(master),
        }));
        self.reading = Reading::Clear;
        Ok(Step::Agreed)
    }
}

/// Returns this side's part in the KEM. It is there wherever a hybrid suite was offered.
fn share(ephemeral: &Ephemeral) -> Result<&Share, Violation> {
    ephemeral.share().ok_or(Violation::BadKey)
}
