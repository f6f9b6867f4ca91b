//! Whether the store still holds what it held: a server may be emptied, or come back without its newest data.
//!
//! Invariant: each loss is told once, and so is that the store is in use again after it.

use hookwire_model::Shard;

/// What was last seen of a shard's age.
#[derive(Debug, Default)]
pub(crate) struct Age {
    /// When its data began, in microseconds; 0: it was empty. `None`: nobody looked yet.
    born: Option<u64>,
    /// The last number it had given.
    last: u64,
    /// It was told that the data is gone, and not yet that there is some again.
    is_lost: bool,
}

/// What a look showed that is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Everything is gone.
    All,
    /// Everything is gone, and others have stored something since.
    AllAndBegun,
    /// There is something again after everything was gone.
    Begun,
    /// What was stored last is gone.
    Newest,
}

impl Age {
    /// Notes when the data began (0: there is none), and the last number given.
    pub(crate) fn look(&mut self, born: u64, last: u64) -> Option<Loss> {
        let (before, last_before) = (self.born.replace(born), std::mem::replace(&mut self.last, last));
        let was_lost = std::mem::replace(&mut self.is_lost, false);
        match before {
            Some(before) if before > 0 && born == 0 => {
                self.is_lost = true;
                Some(Loss::All)
            }
            Some(before) if before > 0 && born != before => Some(Loss::AllAndBegun),
            Some(_) if born == 0 => {
                self.is_lost = was_lost;
                None
            }
            Some(_) if was_lost => Some(Loss::Begun),
            Some(before) if before == born && last < last_before => Some(Loss::Newest),
            _ => None,
        }
    }
}

impl Loss {
    /// Says so in the log.
    pub(crate) fn tell(self, server: &str, shard: Shard) {
        if matches!(self, Loss::All | Loss::AllAndBegun) {
            tracing::warn!(
                server,
                %shard,
                "the store lost its data: Redis was emptied (FLUSHALL), or came back without it; what was stored is \
                 gone, and event ids are not recognised; going on with what comes"
            );
        }
        if matches!(self, Loss::Begun | Loss::AllAndBegun) {
            tracing::info!(server, %shard, "the store that lost its data holds events again");
        }
        if self == Loss::Newest {
            tracing::warn!(
                server,
                %shard,
                "the store lost what was stored last: Redis came back without it, or another took its place; going on \
                 from there (appendfsync always, or store.wait_replicas, keeps more)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_once() {
        let looks = [
            // A new store fills.
            (0, 0, None),
            (0, 0, None),
            (10, 1, None),
            (10, 7, None),
            // It comes back without its newest.
            (10, 5, Some(Loss::Newest)),
            (10, 5, None),
            // It is emptied, and fills again.
            (0, 0, Some(Loss::All)),
            (0, 0, None),
            (20, 1, Some(Loss::Begun)),
            (20, 2, None),
            // It is emptied and filled between two looks.
            (30, 9, Some(Loss::AllAndBegun)),
            (30, 9, None),
        ];
        let mut age = Age::default();
        for (born, last, loss) in looks {
            assert_eq!(age.look(born, last), loss, "{born} {last}");
        }
        assert_eq!(Age::default().look(10, 5), None, "whoever looks first has lost nothing");
    }
}
