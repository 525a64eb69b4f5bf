"""What several tests share: recordings, trained runs, files of other programs, oracles."""
