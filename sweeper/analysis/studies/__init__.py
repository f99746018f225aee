"""The paper's three studies, of your own runs or of any table.

`datamix`: how optima follow the shares of the training data. `validation`: how they depend on what
the validation loss is made of. `skills`: whether skills differ, said on one half of them and
confirmed on the other. `presets` fills a spec in for each.
"""
