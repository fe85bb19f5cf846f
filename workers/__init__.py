"""The workers: batch, run, deliver. No HTTP framework."""
