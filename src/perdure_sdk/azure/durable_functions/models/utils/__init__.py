"""An official import path; nothing of ours is defined here."""
