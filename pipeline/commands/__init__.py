"""The commands of ``hedgeflow``, one file a noun."""
