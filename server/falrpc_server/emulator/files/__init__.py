"""fal's file storage: what is uploaded, who may read it, and how it gets there."""
