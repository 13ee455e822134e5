"""Data sets in other formats as folders that `CocoFolder` or `SemanticFolder` reads: published ones, and exports of tools."""
