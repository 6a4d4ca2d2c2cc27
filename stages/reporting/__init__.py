"""What a finished study becomes: tables, figures, grids of images and one self-contained page."""
