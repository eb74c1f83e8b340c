"""What is made once, before training: faces out of videos, packs, shards, landmarks."""
